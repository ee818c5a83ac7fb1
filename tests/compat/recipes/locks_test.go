package recipes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"etcore/tests/compat/harness"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// Who holds the lock reads, counts and writes in three steps; nothing is lost.
func TestMutexExcludes(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		const workers, rounds = 6, 10
		ctx := within(t)
		var group errgroup.Group
		for range workers {
			session := session(t, access)
			group.Go(func() error {
				mutex := concurrency.NewMutex(session, "/lock")
				for range rounds {
					if err := mutex.Lock(ctx); err != nil {
						return err
					}
					if err := increment(ctx, session.Client(), mutex); err != nil {
						return err
					}
					if err := mutex.Unlock(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		check(t, group.Wait())
		if got := pairs(t, access.Client(t), "counter")["counter"]; got != fmt.Sprint(workers*rounds) {
			t.Fatalf("counted to %s", got)
		}
	})
}

func increment(ctx context.Context, client *clientv3.Client, mutex *concurrency.Mutex) error {
	read, err := client.Get(ctx, "counter")
	if err != nil {
		return err
	}
	count := 0
	if len(read.Kvs) > 0 {
		if count, err = strconv.Atoi(string(read.Kvs[0].Value)); err != nil {
			return err
		}
	}
	written, err := client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("counter", fmt.Sprint(count+1))).Commit()
	if err == nil && !written.Succeeded {
		err = errors.New("the lock is not held")
	}
	return err
}

func TestMutexIsTriedGivenUpAndInherited(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		waits := make(chan struct{})
		holder := shortSession(t, access.Client(t))
		other := shortSession(t, access.Client(t, onWatch(sync.OnceFunc(func() { close(waits) }))))
		held, wanted := concurrency.NewMutex(holder, "/lock"), concurrency.NewMutex(other, "/lock")
		check(t, held.TryLock(ctx))
		if err := wanted.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
			t.Fatalf("a lock that is held: %v", err)
		}
		// Who gives up waiting leaves no key behind.
		short, cancel := context.WithCancel(ctx)
		waiting := make(chan error)
		go func() { waiting <- wanted.Lock(short) }()
		<-waits
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Fatalf("a wait that was given up: %v", err)
		}
		if keys := pairs(t, access.Client(t), "/lock/"); len(keys) != 1 {
			t.Fatalf("keys of the lock: %v", keys)
		}
		// A lease that ends gives the lock on, and its session says so.
		go func() { waiting <- wanted.Lock(ctx) }()
		_, err := access.Client(t).Revoke(ctx, holder.Lease())
		check(t, err)
		check(t, <-waiting)
		<-holder.Done()
		if err := held.Unlock(ctx); err != nil && !errors.Is(err, concurrency.ErrLockReleased) {
			t.Fatalf("unlocking without a session: %v", err)
		}
		check(t, wanted.Unlock(ctx))
		if err := wanted.Unlock(ctx); !errors.Is(err, concurrency.ErrLockReleased) {
			t.Fatalf("unlocking twice: %v", err)
		}
	})
}

// shortSession keeps its lease alive each second, so it soon learns of its end.
func shortSession(t *testing.T, client *clientv3.Client) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(3))
	check(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// onWatch tells that a client opens its stream of watches: for a mutex, that it waits.
func onWatch(tell func()) grpc.DialOption {
	return grpc.WithChainStreamInterceptor(func(ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn,
		method string, streamer grpc.Streamer, options ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if method == "/etcdserverpb.Watch/Watch" {
			tell()
		}
		return streamer(ctx, description, connection, method, options...)
	})
}

func TestElectionsPassOn(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		var elections []*concurrency.Election
		for range 3 {
			elections = append(elections, concurrency.NewElection(session(t, access), "/election"))
		}
		observer := concurrency.NewElection(session(t, access), "/election")
		if _, err := observer.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
			t.Fatalf("an election without candidates: %v", err)
		}
		seen := observer.Observe(ctx)
		require := func(wanted string) {
			t.Helper()
			if got := string((<-seen).Kvs[0].Value); got != wanted {
				t.Fatalf("%s leads, wanted %s", got, wanted)
			}
		}
		check(t, elections[0].Campaign(ctx, "first"))
		require("first")
		check(t, elections[0].Proclaim(ctx, "first again"))
		require("first again")
		next := make(chan error)
		go func() { next <- elections[1].Campaign(ctx, "second") }()
		check(t, elections[0].Resign(ctx))
		check(t, <-next)
		require("second")
		if err := elections[0].Proclaim(ctx, "too late"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
			t.Fatalf("proclaiming without being the leader: %v", err)
		}
		leader, err := observer.Leader(ctx)
		check(t, err)
		if string(leader.Kvs[0].Value) != "second" || string(leader.Kvs[0].Key) != elections[1].Key() {
			t.Fatalf("the leader is %v", leader.Kvs)
		}
		go func() { next <- elections[2].Campaign(ctx, "third") }()
		check(t, elections[1].Resign(ctx))
		check(t, <-next)
		require("third")
	})
}
