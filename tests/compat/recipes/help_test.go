package recipes

import (
	"context"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// limit is far beyond what any of these tests takes.
const limit = time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// session is one of a client of its own.
func session(t *testing.T, access *harness.Access) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(access.Client(t))
	check(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// pairs are the keys and values below a prefix.
func pairs(t *testing.T, kv clientv3.KV, prefix string) map[string]string {
	t.Helper()
	response, err := kv.Get(within(t), prefix, clientv3.WithPrefix())
	check(t, err)
	pairs := map[string]string{}
	for _, kv := range response.Kvs {
		pairs[string(kv.Key)] = string(kv.Value)
	}
	return pairs
}

// oneByOne hands over what comes in batches: how much of it comes together is the server's choice.
func oneByOne[Batch, Item any](ctx context.Context, t *testing.T, batches <-chan Batch, items func(Batch) []Item) (next func() Item) {
	t.Helper()
	var left []Item
	return func() Item {
		t.Helper()
		for len(left) == 0 {
			select {
			case batch, ok := <-batches:
				if !ok {
					t.Fatal("nothing comes any more")
				}
				left = items(batch)
			case <-ctx.Done():
				t.Fatal("nothing comes")
			}
		}
		item := left[0]
		left = left[1:]
		return item
	}
}

// eventsOf are the events of a watch, one by one.
func eventsOf(ctx context.Context, t *testing.T, watch clientv3.WatchChan) (next func() *clientv3.Event) {
	t.Helper()
	return oneByOne(ctx, t, watch, func(response clientv3.WatchResponse) []*clientv3.Event {
		check(t, response.Err())
		return response.Events
	})
}
