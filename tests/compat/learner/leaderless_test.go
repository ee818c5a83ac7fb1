package learner

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// quick elections, so that a leader is missed soon.
var quick = []string{"--heartbeat-interval=50", "--election-timeout=500"}

// A voter of two whose other one has gone has no leader. What its clients meet then is what they meet at an etcd in its
// place: who said that he needs a leader is told that there is none, at once or, if it is a stream, some election
// timeouts later; all others stay, and go on when the other voter is back.
func TestWithoutALeader(t *testing.T) {
	t.Parallel()
	seen := map[string][]string{}
	var group sync.WaitGroup
	var lock sync.Mutex
	for name, program := range map[string]harness.Program{"etcd": harness.Etcd37(t), "etcore": harness.EtcoreOrReference(t)} {
		etcd := join(t, harness.Start(t, harness.Etcd37(t), harness.Options{Flags: quick, FlagsAt: func(peer string) []string {
			return []string{"--initial-advertise-peer-urls=http://" + peer, "--initial-cluster=default=http://" + peer}
		}}))
		joined := join(t, startLearner(t, program, etcd.server, quick...))
		group.Add(1)
		go func() {
			defer group.Done()
			lines := withoutALeader(t, etcd, joined)
			lock.Lock()
			defer lock.Unlock()
			seen[name] = lines
		}()
	}
	group.Wait()
	if difference := cmp.Diff(seen["etcd"], seen["etcore"]); difference != "" {
		t.Errorf("(-etcd +etcore):\n%s", difference)
	}
	if len(seen["etcd"]) == 0 {
		t.Error("nothing was compared")
	}
}

// withoutALeader plays all of it and tells what was seen at the member that joined.
func withoutALeader(t *testing.T, etcd, joined *member) []string {
	etcd.promote(joined.id())
	writesThroughBoth(t, etcd, joined)
	connection := joined.server.Connection(t)
	election := epb.NewElectionClient(etcd.server.Connection(t))
	lease, err := etcd.client.Grant(within(t), 1000)
	check(t, err)
	_, err = election.Campaign(within(t), &epb.CampaignRequest{Name: []byte("e"), Lease: int64(lease.ID)})
	check(t, err)

	streams := openStreams(t, connection)
	etcd.server.Kill()
	poll(t, func() error {
		if leader := joined.status().Leader; leader != 0 {
			return fmt.Errorf("%x leads", leader)
		}
		return nil
	})
	lines := callAll(t, connection, true)
	for _, stream := range streams {
		if stream.leaning {
			lines = append(lines, fmt.Sprintf("%s: %s", stream.name, stream.end(t)))
		}
	}
	lines = append(lines, callAll(t, connection, false)...)
	lines = append(lines, askAll(t, joined.server)...)
	for _, stream := range streams {
		if !stream.leaning && stream.hasEnded() {
			t.Errorf("%s has ended at %s: %s", stream.name, joined.server.Program.Name, stream.end(t))
		}
	}

	etcd.server.Restart(t)
	poll(t, func() error {
		_, err := joined.client.Put(within(t), "again", "there")
		return err
	})
	writesThroughBoth(t, etcd, joined)
	for _, stream := range streams {
		if stream.name == "watch" && !stream.leaning {
			stream.await(t, "again")
		}
		if !stream.leaning && stream.hasEnded() {
			t.Errorf("%s has ended at %s: %s", stream.name, joined.server.Program.Name, stream.end(t))
		}
	}
	return append(lines, askAll(t, joined.server)...)
}

// stream is one that is open.
type stream struct {
	name    string
	leaning bool // says that it needs a leader
	told    chan string
	ended   chan error
}

// leaning says that a call needs a leader.
func leaning(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "hasleader", "true")
}

// openStreams opens one of each kind twice: of a client that needs a leader, and of one that does not.
func openStreams(t *testing.T, connection *grpc.ClientConn) []*stream {
	var streams []*stream
	for _, leans := range []bool{true, false} {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		if leans {
			ctx = leaning(ctx)
		}
		watch, err := pb.NewWatchClient(connection).Watch(ctx)
		check(t, err)
		check(t, watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("again")},
		}}))
		_, err = watch.Recv()
		check(t, err)
		streams = append(streams, receive("watch", leans, func() (string, error) {
			response, err := watch.Recv()
			return fmt.Sprint(response), err
		}))
		keepAlive, err := pb.NewLeaseClient(connection).LeaseKeepAlive(ctx)
		check(t, err)
		streams = append(streams, receive("keep-alive", leans, func() (string, error) {
			response, err := keepAlive.Recv()
			return fmt.Sprint(response), err
		}))
		observe, err := epb.NewElectionClient(connection).Observe(ctx, &epb.LeaderRequest{Name: []byte("e")})
		check(t, err)
		_, err = observe.Recv()
		check(t, err)
		streams = append(streams, receive("observe", leans, func() (string, error) {
			response, err := observe.Recv()
			return fmt.Sprint(response), err
		}))
		health, err := healthpb.NewHealthClient(connection).Watch(ctx, &healthpb.HealthCheckRequest{})
		check(t, err)
		_, err = health.Recv()
		check(t, err)
		streams = append(streams, receive("health", leans, func() (string, error) {
			response, err := health.Recv()
			return fmt.Sprint(response), err
		}))
	}
	return streams
}

func receive(name string, leans bool, next func() (string, error)) *stream {
	opened := &stream{name: name, leaning: leans, told: make(chan string, 100), ended: make(chan error, 1)}
	go func() {
		for {
			text, err := next()
			if err != nil {
				opened.ended <- err
				return
			}
			opened.told <- text
		}
	}()
	return opened
}

func (s *stream) hasEnded() bool { return len(s.ended) > 0 }

// end waits until the stream has ended, and tells how.
func (s *stream) end(t *testing.T) string {
	select {
	case err := <-s.ended:
		s.ended <- err
		return outcome(err)
	case <-time.After(patience):
		t.Errorf("%s goes on", s.name)
		return "goes on"
	}
}

func (s *stream) await(t *testing.T, text string) {
	deadline := time.After(patience)
	for {
		select {
		case told := <-s.told:
			if strings.Contains(told, text) {
				return
			}
		case <-deadline:
			t.Errorf("%s has not told of %s", s.name, text)
			return
		}
	}
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "ended"
	}
	return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
}

// callAll makes calls of all kinds at the same time, and tells what became of them.
func callAll(t *testing.T, connection *grpc.ClientConn, leans bool) []string {
	kv, watch, lease := pb.NewKVClient(connection), pb.NewWatchClient(connection), pb.NewLeaseClient(connection)
	cluster, upkeep := pb.NewClusterClient(connection), pb.NewMaintenanceClient(connection)
	key := []byte("both")
	calls := map[string]func(context.Context) error{
		"range": func(ctx context.Context) error {
			_, err := kv.Range(ctx, &pb.RangeRequest{Key: key})
			return err
		},
		"serializable range": func(ctx context.Context) error {
			answer, err := kv.Range(ctx, &pb.RangeRequest{Key: key, Serializable: true})
			if err == nil && answer.Count != 1 {
				return fmt.Errorf("%v", answer)
			}
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: key})
			return err
		},
		"serializable txn": func(ctx context.Context) error {
			get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, Serializable: true}}}
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{get}})
			return err
		},
		"txn": func(ctx context.Context) error {
			get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{get}})
			return err
		},
		"compaction": func(ctx context.Context) error {
			_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: 2})
			return err
		},
		"grant": func(ctx context.Context) error {
			_, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
			return err
		},
		"members": func(ctx context.Context) error {
			_, err := cluster.MemberList(ctx, &pb.MemberListRequest{})
			return err
		},
		"members, linearizable": func(ctx context.Context) error {
			_, err := cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
			return err
		},
		"status": func(ctx context.Context) error {
			answer, err := upkeep.Status(ctx, &pb.StatusRequest{})
			if err == nil {
				return fmt.Errorf("%v, leader %d", answer.Errors, answer.Leader)
			}
			return err
		},
		"hash": func(ctx context.Context) error {
			_, err := upkeep.HashKV(ctx, &pb.HashKVRequest{})
			return err
		},
		"lock": func(ctx context.Context) error {
			_, err := lpb.NewLockClient(connection).Lock(ctx, &lpb.LockRequest{Name: []byte("l"), Lease: 5})
			return err
		},
		"new watch": func(ctx context.Context) error {
			stream, err := watch.Watch(ctx)
			if err == nil {
				request := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: key}}
				_ = stream.Send(&pb.WatchRequest{RequestUnion: request})
				_, err = stream.Recv()
			}
			return err
		},
		"snapshot": func(ctx context.Context) error {
			stream, err := upkeep.Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	}
	var group sync.WaitGroup
	var lock sync.Mutex
	var lines []string
	for name, call := range calls {
		group.Add(1)
		go func() {
			defer group.Done()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if leans {
				ctx = leaning(ctx)
			}
			line := fmt.Sprintf("%s, needs a leader %t: %s", name, leans, outcome(call(ctx)))
			lock.Lock()
			defer lock.Unlock()
			lines = append(lines, line)
		}()
	}
	group.Wait()
	slices.Sort(lines)
	return lines
}

// askAll tells what the health routes say.
func askAll(t *testing.T, server *harness.Server) []string {
	var lines []string
	for _, path := range []string{"/health", "/health?serializable=true", "/livez", "/readyz", "/readyz?exclude=linearizable_read"} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.Endpoint+path, nil)
		check(t, err)
		response, err := http.DefaultClient.Do(request)
		check(t, err)
		body, err := io.ReadAll(response.Body)
		check(t, err)
		_ = response.Body.Close()
		cancel()
		// The checks come in no order.
		words := strings.Split(strings.TrimSpace(string(body)), "\n")
		slices.Sort(words)
		lines = append(lines, fmt.Sprintf("%s: %d %q", path, response.StatusCode, words))
	}
	return lines
}
