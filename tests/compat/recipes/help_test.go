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
