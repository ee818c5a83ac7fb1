package recipes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"etcore/tests/compat/harness"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"golang.org/x/sync/errgroup"
)

// The API server keeps its objects in etcd so: writes only over the revision that was
// read, lists in pages of one revision, caches that watch from a list's revision on,
// events that end with shared leases, and one of several servers that compacts.

const (
	podPrefix   = "/registry/pods/"
	eventPrefix = "/registry/events/"
	pageLimit   = 7
)

// Writers fight over few objects while two caches follow. In the end the caches are
// what a list shows, and on the way no event contradicts what came before it.
func TestKubernetesCachesFollowConflictingWriters(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		const writers, rounds = 6, 80
		early := newCache(t, access)
		var group errgroup.Group
		conflicts := make([]int, writers)
		for writer := range writers {
			client, err := kubernetes.New(clientv3.Config{Endpoints: []string{access.URL}, TLS: access.TLS})
			check(t, err)
			t.Cleanup(func() { _ = client.Close() })
			group.Go(func() error {
				random := rand.New(rand.NewPCG(uint64(writer), 1))
				for round := range rounds {
					conflict, err := updateOne(ctx, client, random, fmt.Sprintf("%d/%d", writer, round))
					if err != nil {
						return err
					}
					conflicts[writer] += conflict
				}
				return nil
			})
		}
		early.follow(ctx, t, 100) // somewhere in the middle
		late := newCache(t, access)
		restarted := early.resumed(access.Client(t))
		check(t, group.Wait())
		client := access.Client(t)
		last, err := client.Put(ctx, podPrefix+"last", "v")
		check(t, err)
		listed, revision := listPages(ctx, t, client, podPrefix)
		if revision != last.Header.Revision {
			t.Fatalf("listed at %d after a write at %d", revision, last.Header.Revision)
		}
		for name, cache := range map[string]*cache{"early": restarted, "late": late} {
			cache.follow(ctx, t, revision)
			if !maps.Equal(cache.objects, listed) {
				t.Errorf("the %s cache has %v, listed are %v", name, cache.objects, listed)
			}
		}
		total := 0
		for _, count := range conflicts {
			total += count
		}
		if total == 0 {
			t.Error("no writer met another one")
		}
		t.Logf("revision %d, %d objects, %d conflicts", revision, len(listed), total)
	})
}

// updateOne creates, changes or deletes one object by what it reads, again until it
// succeeds; it returns how often somebody else was quicker.
func updateOne(ctx context.Context, client *kubernetes.Client, random *rand.Rand, value string) (int, error) {
	key := podPrefix + strconv.Itoa(random.IntN(15))
	read, err := client.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
	if err != nil {
		return 0, err
	}
	known := read.KV
	for conflicts := 0; ; conflicts++ {
		expected := int64(0)
		if known != nil {
			expected = known.ModRevision
		}
		if known != nil && random.IntN(4) == 0 {
			deleted, err := client.Kubernetes.OptimisticDelete(ctx, key, expected, kubernetes.DeleteOptions{GetOnFailure: true})
			if err != nil || deleted.Succeeded {
				return conflicts, err
			}
			known = deleted.KV
			continue
		}
		written, err := client.Kubernetes.OptimisticPut(ctx, key, []byte(value), expected, kubernetes.PutOptions{GetOnFailure: true})
		if err != nil || written.Succeeded {
			return conflicts, err
		}
		if written.KV != nil && written.KV.ModRevision == expected {
			return conflicts, fmt.Errorf("%s is at %d, and an update over it is refused", key, expected)
		}
		known = written.KV
	}
}

// object is what a cache knows of one.
type object struct {
	value    string
	revision int64
}

// listPages lists all objects of one revision, a few at a time.
func listPages(ctx context.Context, t *testing.T, client *clientv3.Client, prefix string) (map[string]object, int64) {
	t.Helper()
	objects := map[string]object{}
	key, revision := prefix, int64(0)
	end := clientv3.GetPrefixRangeEnd(prefix)
	for {
		page, err := client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(pageLimit), clientv3.WithRev(revision))
		check(t, err)
		if revision == 0 {
			revision = page.Header.Revision
		}
		if page.More != (page.Count > int64(len(page.Kvs))) {
			t.Fatalf("%d of %d, more: %v", len(page.Kvs), page.Count, page.More)
		}
		for _, kv := range page.Kvs {
			objects[string(kv.Key)] = object{string(kv.Value), kv.ModRevision}
		}
		if !page.More {
			break
		}
		key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	counted, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(revision))
	check(t, err)
	if counted.Count != int64(len(objects)) || len(counted.Kvs) != 0 {
		t.Fatalf("counted are %d, listed %d", counted.Count, len(objects))
	}
	return objects, revision
}

// cache follows a prefix from a list on, as the watch cache does.
type cache struct {
	client   *clientv3.Client
	objects  map[string]object
	revision int64
	watch    clientv3.WatchChan
}

func newCache(t *testing.T, access *harness.Access) *cache {
	t.Helper()
	client := access.Client(t)
	objects, revision := listPages(within(t), t, client, podPrefix)
	return (&cache{objects: objects, revision: revision}).resumed(client)
}

// resumed goes on where the cache stands, with another client.
func (c *cache) resumed(client *clientv3.Client) *cache {
	watch := client.Watch(clientv3.WithRequireLeader(context.Background()), podPrefix, clientv3.WithPrefix(),
		clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithRev(c.revision+1))
	return &cache{client: client, objects: maps.Clone(c.objects), revision: c.revision, watch: watch}
}

// follow takes events until the cache is sure to be at a revision.
func (c *cache) follow(ctx context.Context, t *testing.T, revision int64) {
	t.Helper()
	for c.revision < revision {
		check(t, c.client.RequestProgress(clientv3.WithRequireLeader(ctx)))
		select {
		case response := <-c.watch:
			check(t, response.Err())
			for _, event := range response.Events {
				c.apply(t, event)
			}
			c.revision = max(c.revision, response.Header.Revision)
		case <-ctx.Done():
			t.Fatalf("the cache is at %d, wanted %d", c.revision, revision)
		}
	}
}

// apply takes an event that must fit what the cache knows.
func (c *cache) apply(t *testing.T, event *clientv3.Event) {
	t.Helper()
	key := string(event.Kv.Key)
	before, known := c.objects[key]
	if known != (event.PrevKv != nil) || known && (object{string(event.PrevKv.Value), event.PrevKv.ModRevision}) != before {
		t.Fatalf("known is %+v, before the event was %v", before, event.PrevKv)
	}
	if event.Kv.ModRevision <= before.revision || event.IsCreate() && known {
		t.Fatalf("known is %+v, the event is %v", before, event)
	}
	if event.Type == clientv3.EventTypeDelete {
		delete(c.objects, key)
		return
	}
	c.objects[key] = object{string(event.Kv.Value), event.Kv.ModRevision}
}

// Of several servers each time one compacts: who changes the version of the key that it knows.
func TestKubernetesCompactsOnce(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		const servers, rounds = 3, 4
		ctx := within(t)
		clients, versions := make([]*clientv3.Client, servers), make([]int64, servers)
		for server := range servers {
			clients[server] = access.Client(t)
		}
		compacted := int64(0)
		for range rounds {
			list, revision := listPages(ctx, t, clients[0], podPrefix)
			for number := range 10 {
				_, err := clients[0].Put(ctx, podPrefix+strconv.Itoa(number), fmt.Sprint(len(list)))
				check(t, err)
			}
			winners := 0
			for server, client := range clients {
				answer, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version("compact_rev_key"), "=", versions[server])).
					Then(clientv3.OpPut("compact_rev_key", fmt.Sprint(revision))).
					Else(clientv3.OpGet("compact_rev_key")).Commit()
				check(t, err)
				if !answer.Succeeded {
					versions[server] = answer.Responses[0].GetResponseRange().Kvs[0].Version
					continue
				}
				winners++
				versions[server]++
				_, err = client.Compact(ctx, revision)
				check(t, err)
				compacted = revision
			}
			if winners != 1 {
				t.Fatalf("%d of %d servers compact", winners, servers)
			}
		}
		requireCompacted(ctx, t, clients[0], compacted)
	})
}

// requireCompacted has a list that is too old end, and a watch say from where to go on.
func requireCompacted(ctx context.Context, t *testing.T, client *clientv3.Client, revision int64) {
	t.Helper()
	_, err := client.Get(ctx, podPrefix, clientv3.WithPrefix(), clientv3.WithLimit(pageLimit), clientv3.WithRev(revision-1))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("listing a compacted revision: %v", err)
	}
	_, err = client.Get(ctx, podPrefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1_000_000))
	if !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Fatalf("listing a future revision: %v", err)
	}
	old := <-client.Watch(clientv3.WithRequireLeader(ctx), podPrefix, clientv3.WithPrefix(), clientv3.WithRev(revision-1))
	if !errors.Is(old.Err(), rpctypes.ErrCompacted) || old.CompactRevision != revision {
		t.Fatalf("watching from a compacted revision: %v, compacted at %d", old.Err(), old.CompactRevision)
	}
	next := <-client.Watch(clientv3.WithRequireLeader(ctx), podPrefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	if next.Err() != nil || next.Events[0].Kv.ModRevision != revision+1 {
		t.Fatalf("watching from the revision behind: %v", next)
	}
}

// Events share leases, by the dozen; they go with them, and all watchers are told.
func TestKubernetesEventsEndWithTheirLeases(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		const events, perLease = 36, 12
		ctx := within(t)
		client, err := kubernetes.New(clientv3.Config{Endpoints: []string{access.URL}, TLS: access.TLS})
		check(t, err)
		defer client.Close()
		watch := client.Watch(clientv3.WithRequireLeader(ctx), eventPrefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(1))
		var leases []clientv3.LeaseID
		for number := range events {
			if number%perLease == 0 {
				lease, err := client.Grant(ctx, 3600)
				check(t, err)
				leases = append(leases, lease.ID)
			}
			written, err := client.Kubernetes.OptimisticPut(ctx, eventPrefix+strconv.Itoa(number), []byte("happened"), 0,
				kubernetes.PutOptions{LeaseID: leases[len(leases)-1]})
			check(t, err)
			if !written.Succeeded {
				t.Fatalf("event %d is there already", number)
			}
		}
		_, err = client.Revoke(ctx, leases[1])
		check(t, err)
		count, err := client.Kubernetes.Count(ctx, eventPrefix, kubernetes.CountOptions{})
		check(t, err)
		if count != events-perLease {
			t.Fatalf("%d events are left", count)
		}
		for told, deleted := 0, 0; told < events+perLease; {
			response := <-watch
			check(t, response.Err())
			told += len(response.Events)
			for _, event := range response.Events {
				if event.Type == clientv3.EventTypeDelete {
					deleted++
					if clientv3.LeaseID(event.PrevKv.Lease) != leases[1] {
						t.Fatalf("%s was deleted", event.Kv.Key)
					}
				}
			}
			if told == events+perLease && deleted != perLease {
				t.Fatalf("told of %d deletions", deleted)
			}
		}
	})
}
