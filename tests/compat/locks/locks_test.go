package locks

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// patience bounds a step on a busy machine.
const patience = time.Minute

// stage is one server, the clients of its services, and what came back so far.
type stage struct {
	t        *testing.T
	ctx      context.Context
	kv       pb.KVClient
	lease    pb.LeaseClient
	lock     lpb.LockClient
	election epb.ElectionClient
	health   healthpb.HealthClient
	upkeep   pb.MaintenanceClient
	seen     []string
}

// onBoth plays a scene on the reference and on the subject, and compares what they saw.
func onBoth(t *testing.T, play func(*stage)) {
	t.Helper()
	watch := func(program harness.Program) []string {
		server := harness.Start(t, program, harness.Options{})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		connection := server.Connection(t)
		s := &stage{
			t: t, ctx: ctx,
			kv: pb.NewKVClient(connection), lease: pb.NewLeaseClient(connection),
			lock: lpb.NewLockClient(connection), election: epb.NewElectionClient(connection),
			health: healthpb.NewHealthClient(connection), upkeep: pb.NewMaintenanceClient(connection),
		}
		play(s)
		return s.seen
	}
	wanted := watch(harness.Etcd37(t))
	got := watch(harness.EtcoreOrReference(t))
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("(-reference +subject):\n%s", difference)
	}
	if len(wanted) == 0 {
		t.Error("nothing was compared")
	}
}

// note keeps a line for the comparison.
func (s *stage) note(format string, words ...any) {
	s.seen = append(s.seen, fmt.Sprintf(format, words...))
}

// failed notes an error, if there is one.
func (s *stage) failed(step string, err error) bool {
	if err != nil {
		s.note("%s: %s: %q", step, status.Code(err), status.Convert(err).Message())
	}
	return err != nil
}

func (s *stage) grant(ids ...int64) {
	s.t.Helper()
	for _, id := range ids {
		if _, err := s.lease.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: id, TTL: 1000}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stage) revoke(id int64) {
	s.t.Helper()
	if _, err := s.lease.LeaseRevoke(s.ctx, &pb.LeaseRevokeRequest{ID: id}); err != nil {
		s.t.Fatal(err)
	}
}

// awaitKeys asks until these are the keys below a name.
func (s *stage) awaitKeys(name string, keys ...string) {
	s.t.Helper()
	for {
		answer, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte(name + "/"), RangeEnd: []byte(name + "0")})
		if err != nil {
			s.t.Fatalf("waiting for %q: %v", keys, err)
		}
		var there []string
		for _, kv := range answer.Kvs {
			there = append(there, string(kv.Key))
		}
		if slices.Equal(there, keys) {
			s.note("keys %q at %d", there, answer.Header.Revision)
			return
		}
	}
}

func (s *stage) noteLock(step string, answer *lpb.LockResponse, err error) {
	if !s.failed(step, err) {
		s.note("%s: %q at %d", step, answer.Key, answer.Header.Revision)
	}
}

func (s *stage) tryLock(step, name string, lease int64) {
	answer, err := s.lock.Lock(s.ctx, &lpb.LockRequest{Name: []byte(name), Lease: lease})
	s.noteLock(step, answer, err)
}

// lockBehind begins to wait for a lock; what it returns notes what came of it.
func (s *stage) lockBehind(ctx context.Context, step, name string, lease int64) (finish func()) {
	type outcome struct {
		answer *lpb.LockResponse
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		answer, err := s.lock.Lock(ctx, &lpb.LockRequest{Name: []byte(name), Lease: lease})
		done <- outcome{answer, err}
	}()
	return func() {
		o := <-done
		s.noteLock(step, o.answer, o.err)
	}
}

func (s *stage) unlock(key string) {
	answer, err := s.lock.Unlock(s.ctx, &lpb.UnlockRequest{Key: []byte(key)})
	if !s.failed("unlock "+key, err) {
		s.note("unlock %s at %d", key, answer.Header.Revision)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		s.grant(10, 11, 12, 13, -5)
		s.tryLock("free", "l", 10)
		s.tryLock("again", "l", 10)
		second := s.lockBehind(s.ctx, "second", "l", 11)
		s.awaitKeys("l", "l/a", "l/b")
		third := s.lockBehind(s.ctx, "third", "l", 12)
		s.awaitKeys("l", "l/a", "l/b", "l/c")
		leaving, leave := context.WithCancel(s.ctx)
		fourth := s.lockBehind(leaving, "fourth", "l", 13)
		s.awaitKeys("l", "l/a", "l/b", "l/c", "l/d")
		leave()
		fourth()
		s.awaitKeys("l", "l/a", "l/b", "l/c")
		s.unlock("l/a")
		second()
		s.revoke(12)
		s.unlock("l/b")
		third()
		s.awaitKeys("l")
		s.tryLock("negative lease", "", -5)
		s.tryLock("unknown lease", "l", 77)
		s.unlock("")
		s.unlock("no such key")
	})
}

// The lease of one who waits ends while he waits.
func TestLockOfLostSession(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		s.grant(1, 2, 3)
		s.tryLock("first", "l", 1)
		second := s.lockBehind(s.ctx, "second", "l", 2)
		s.awaitKeys("l", "l/1", "l/2")
		third := s.lockBehind(s.ctx, "third", "l", 3)
		s.awaitKeys("l", "l/1", "l/2", "l/3")
		s.revoke(2)
		s.awaitKeys("l", "l/1", "l/3")
		// The holder's session ends: whoever is next has it.
		s.revoke(1)
		second()
		third()
		s.awaitKeys("l", "l/3")
	})
}

func (s *stage) campaign(step, name string, lease int64, value string) *epb.LeaderKey {
	answer, err := s.election.Campaign(s.ctx, &epb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)})
	if s.failed(step, err) {
		return nil
	}
	leader := answer.Leader
	s.note("%s: %q %q rev %d lease %d at %d", step, leader.Name, leader.Key, leader.Rev, leader.Lease, answer.Header.Revision)
	return leader
}

func (s *stage) leader(step, name string) {
	answer, err := s.election.Leader(s.ctx, &epb.LeaderRequest{Name: []byte(name)})
	if !s.failed(step, err) {
		s.note("%s: %s at %d", step, answer.Kv, answer.Header.Revision)
	}
}

func (s *stage) proclaim(step string, leader *epb.LeaderKey, value string) {
	answer, err := s.election.Proclaim(s.ctx, &epb.ProclaimRequest{Leader: leader, Value: []byte(value)})
	if !s.failed(step, err) {
		s.note("%s at %d", step, answer.Header.Revision)
	}
}

func (s *stage) resign(step string, leader *epb.LeaderKey) {
	answer, err := s.election.Resign(s.ctx, &epb.ResignRequest{Leader: leader})
	if !s.failed(step, err) {
		s.note("%s at %d", step, answer.Header.Revision)
	}
}

func TestElection(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		s.grant(1, 2, 3)
		s.leader("nobody", "e")
		observing, stop := context.WithCancel(s.ctx)
		defer stop()
		observed, err := s.election.Observe(observing, &epb.LeaderRequest{Name: []byte("e")})
		if err != nil {
			s.t.Fatal(err)
		}
		// The header's revision is that of the store when it was told, which is a matter of time.
		told := func() {
			s.t.Helper()
			answer, err := observed.Recv()
			if err != nil {
				s.t.Fatal(err)
			}
			s.note("observed: %s", answer.Kv)
		}
		first := s.campaign("first", "e", 1, "one")
		told()
		s.proclaim("proclaim", first, "two")
		told()
		s.campaign("same value", "e", 1, "two")
		s.campaign("another value", "e", 1, "three")
		told()
		s.leader("first leads", "e")

		elected := make(chan struct{})
		var second *epb.LeaderKey
		waiting := &stage{t: s.t, ctx: s.ctx, election: s.election}
		go func() {
			defer close(elected)
			second = waiting.campaign("second", "e", 2, "four")
		}()
		s.awaitKeys("e", "e/1", "e/2")
		leaving, leave := context.WithCancel(s.ctx)
		left := make(chan error, 1)
		go func() {
			_, err := s.election.Campaign(leaving, &epb.CampaignRequest{Name: []byte("e"), Lease: 3})
			left <- err
		}()
		s.awaitKeys("e", "e/1", "e/2", "e/3")
		leave()
		s.failed("third", <-left)
		s.awaitKeys("e", "e/1", "e/2")
		s.resign("resign", first)
		<-elected
		s.seen = append(s.seen, waiting.seen...)
		told()
		s.resign("resign again", first)
		s.proclaim("proclaim after", first, "five")
		s.leader("second leads", "e")
		s.revoke(2)
		s.leader("nobody again", "e")
		s.proclaim("proclaim without session", second, "six")

		s.campaign("unknown lease", "e", 77, "v")
		s.proclaim("no leader key", nil, "v")
		s.resign("no leader key", nil)
		s.proclaim("empty key", &epb.LeaderKey{Name: []byte("e"), Lease: 1}, "v")
		s.resign("empty key", &epb.LeaderKey{Name: []byte("e"), Lease: 1})
		s.proclaim("put of revision 0", &epb.LeaderKey{Name: []byte("e"), Key: []byte("x"), Lease: 1}, "v")
		s.leader("a name without keys", "")
		s.campaign("an empty name", "", 1, "")
		s.leader("an empty name", "")
	})
}

// Without a lease the server grants one of its own, for a minute.
func TestOwnLeases(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		locked, err := s.lock.Lock(s.ctx, &lpb.LockRequest{Name: []byte("l")})
		if err != nil {
			s.t.Fatal(err)
		}
		s.campaign("elected", "e", 1, "")
		_, err = s.election.Campaign(s.ctx, &epb.CampaignRequest{Name: []byte("e")})
		s.failed("elected", err)
		s.resign("resigned", &epb.LeaderKey{Name: []byte("e"), Key: []byte("e/1"), Rev: 1})
		s.note("%d bytes of key", len(locked.Key)-len("l/"))
		leases, err := s.lease.LeaseLeases(s.ctx, &pb.LeaseLeasesRequest{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, lease := range leases.Leases {
			left, err := s.lease.LeaseTimeToLive(s.ctx, &pb.LeaseTimeToLiveRequest{ID: lease.ID, Keys: true})
			if err != nil {
				s.t.Fatal(err)
			}
			s.note("granted for %d, with %d keys", left.GrantedTTL, len(left.Keys))
		}
		slices.Sort(s.seen)
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		for _, name := range []string{"", "etcdserverpb.KV", "nobody"} {
			request := &healthpb.HealthCheckRequest{Service: name}
			answer, err := s.health.Check(s.ctx, request)
			if !s.failed("check", err) {
				s.note("%q is %s", name, answer.Status)
			}
			watched, err := s.health.Watch(s.ctx, request)
			if err != nil {
				s.t.Fatal(err)
			}
			answer, err = watched.Recv()
			if !s.failed("watch", err) {
				s.note("%q is seen to be %s", name, answer.Status)
			}
		}
		list, err := s.health.List(s.ctx, &healthpb.HealthListRequest{})
		if !s.failed("list", err) {
			s.note("all are %v", list.Statuses)
		}
	})
}
