package recipes

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		client := access.Client(t)
		kv, watcher := namespace.NewKV(client, "space/"), namespace.NewWatcher(client, "space/")
		lease := namespace.NewLease(client, "space/")
		seen := eventsOf(ctx, t, watcher.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(1)))
		granted, err := lease.Grant(ctx, 100)
		check(t, err)
		_, err = kv.Put(ctx, "leased", "v", clientv3.WithLease(granted.ID))
		check(t, err)
		_, err = client.Put(ctx, "outside", "v")
		check(t, err)
		branched, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Version("leased"), "=", 1)).
			Then(clientv3.OpPut("a", "1"), clientv3.OpGet("", clientv3.WithPrefix()), clientv3.OpDelete("outside")).Commit()
		check(t, err)
		if !branched.Succeeded || len(branched.Responses[1].GetResponseRange().Kvs) != 2 || branched.Responses[2].GetResponseDeleteRange().Deleted != 0 {
			t.Fatalf("the transaction answers %v", branched)
		}
		left, err := lease.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
		check(t, err)
		if len(left.Keys) != 1 || string(left.Keys[0]) != "leased" {
			t.Fatalf("keys of the lease: %q", left.Keys)
		}
		_, err = lease.Revoke(ctx, granted.ID)
		check(t, err)
		for _, wanted := range []string{"PUT leased ", "PUT a ", "DELETE leased v"} {
			event := seen()
			got := fmt.Sprintf("%s %s ", event.Type, event.Kv.Key)
			if event.PrevKv != nil {
				got += string(event.PrevKv.Value)
			}
			if got != wanted {
				t.Fatalf("the watcher is told %q, wanted %q", got, wanted)
			}
		}
		if all := pairs(t, client, ""); !maps.Equal(all, map[string]string{"space/a": "1", "outside": "v"}) {
			t.Fatalf("all keys: %v", all)
		}
	})
}

// A mirror takes what is there in pages, and then what changes.
func TestMirrorsFollow(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		client := access.Client(t)
		const before, after = 2500, 200
		fill := func(first, count int) {
			for number := first; number < first+count; number += 100 {
				var puts []clientv3.Op
				for i := range 100 {
					puts = append(puts, clientv3.OpPut(fmt.Sprintf("m/%05d", number+i), fmt.Sprint(number+i)))
				}
				_, err := client.Txn(ctx).Then(puts...).Commit()
				check(t, err)
			}
		}
		fill(0, before)
		syncer := mirror.NewSyncer(client, "m/", 0)
		base, failed := syncer.SyncBase(ctx)
		fill(before, after)
		copied := map[string]string{}
		for page := range base {
			for _, kv := range page.Kvs {
				copied[string(kv.Key)] = string(kv.Value)
			}
		}
		check(t, <-failed)
		_, err := client.Delete(ctx, "m/00007")
		check(t, err)
		last, err := client.Put(ctx, "m/last", "1")
		check(t, err)
		for response := range syncer.SyncUpdates(ctx) {
			check(t, response.Err())
			for _, event := range response.Events {
				if event.Type == clientv3.EventTypeDelete {
					delete(copied, string(event.Kv.Key))
				} else {
					copied[string(event.Kv.Key)] = string(event.Kv.Value)
				}
			}
			if response.Header.Revision >= last.Header.Revision {
				break
			}
		}
		if original := pairs(t, client, "m/"); len(original) != before+after || !maps.Equal(original, copied) {
			t.Fatalf("%d pairs, %d in the mirror", len(original), len(copied))
		}
	})
}

// Two caches own keys by leases, and give them up to each other's writes.
func TestLeasingCachesAgree(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		var caches []clientv3.KV
		for range 2 {
			cache, release, err := leasing.NewKV(access.Client(t), "owner/")
			check(t, err)
			t.Cleanup(release)
			caches = append(caches, cache)
		}
		plain := access.Client(t)
		for round := range 12 {
			writer, reader := caches[round%2], caches[(round+1)%2]
			value := fmt.Sprint(round)
			if round%3 == 0 {
				_, err := writer.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("k/other"), "=", 0)).
					Then(clientv3.OpPut("k/a", value)).Else(clientv3.OpDelete("k/other")).Commit()
				check(t, err)
			} else {
				_, err := writer.Put(ctx, "k/a", value)
				check(t, err)
			}
			for range 3 {
				for _, kv := range []clientv3.KV{reader, writer, plain} {
					read, err := kv.Get(ctx, "k/a")
					check(t, err)
					if len(read.Kvs) != 1 || string(read.Kvs[0].Value) != value {
						t.Fatalf("round %d reads %v", round, read.Kvs)
					}
				}
			}
		}
		deleted, err := caches[0].Delete(ctx, "k/", clientv3.WithPrefix())
		check(t, err)
		if read, err := caches[1].Get(ctx, "k/a"); err != nil || len(read.Kvs) != 0 || deleted.Deleted != 1 {
			t.Fatalf("after %d were deleted: %v %v", deleted.Deleted, read, err)
		}
	})
}

// Endpoints are registered, found by gRPC's resolver, told to watchers, and end with their lease.
func TestEndpointsAreFound(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		client := access.Client(t)
		manager, err := endpoints.NewManager(client, "service")
		check(t, err)
		updates, err := manager.NewWatchChannel(ctx)
		check(t, err)
		granted, err := client.Grant(ctx, 100)
		check(t, err)
		check(t, manager.AddEndpoint(ctx, "service/one", endpoints.Endpoint{Addr: access.Endpoint}, clientv3.WithLease(granted.ID)))
		listed, err := manager.List(ctx)
		check(t, err)
		if listed["service/one"].Addr != access.Endpoint {
			t.Fatalf("listed are %v", listed)
		}
		builder, err := resolver.NewBuilder(client)
		check(t, err)
		security := insecure.NewCredentials()
		if access.TLS != nil {
			// The name in the address is the service's.
			config := access.TLS.Clone()
			config.ServerName = "127.0.0.1"
			security = credentials.NewTLS(config)
		}
		connection, err := grpc.NewClient("etcd:///service", grpc.WithResolvers(builder), grpc.WithTransportCredentials(security))
		check(t, err)
		defer connection.Close()
		health, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		check(t, err)
		if health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Fatalf("health is %s", health.Status)
		}
		_, err = client.Revoke(ctx, granted.ID)
		check(t, err)
		next := oneByOne(ctx, t, updates, func(batch []*endpoints.Update) []*endpoints.Update { return batch })
		for _, wanted := range []endpoints.Operation{endpoints.Add, endpoints.Delete} {
			if update := next(); update.Op != wanted || update.Key != "service/one" {
				t.Fatalf("told %+v", update)
			}
		}
	})
}

// A lease lives while its client keeps it alive, and no longer.
func TestLeasesLiveWhileKeptAlive(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		client := access.Client(t)
		kept, err := client.Grant(ctx, 2)
		check(t, err)
		left, err := client.Grant(ctx, 2)
		check(t, err)
		_, err = client.Put(ctx, "l/kept", "v", clientv3.WithLease(kept.ID))
		check(t, err)
		last, err := client.Put(ctx, "l/left", "v", clientv3.WithLease(left.ID))
		check(t, err)
		alive, err := client.KeepAlive(ctx, kept.ID)
		check(t, err)
		start := time.Now()
		seen := eventsOf(ctx, t, client.Watch(ctx, "l/", clientv3.WithPrefix(), clientv3.WithRev(last.Header.Revision+1)))
		event := seen()
		if event.Type != clientv3.EventTypeDelete || string(event.Kv.Key) != "l/left" {
			t.Fatalf("first ends %v", event)
		}
		if lived := time.Since(start); lived < time.Second {
			t.Fatalf("a lease of 2 s lived %s", lived)
		}
		if response := <-alive; response == nil || response.TTL != 2 {
			t.Fatalf("kept alive: %v", response)
		}
		check(t, client.Lease.Close()) // keeps nothing alive any more
		event = seen()
		if event.Type != clientv3.EventTypeDelete || string(event.Kv.Key) != "l/kept" {
			t.Fatalf("then ends %v", event)
		}
	})
}
