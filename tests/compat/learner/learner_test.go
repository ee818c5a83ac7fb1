package learner

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcore/tests/compat/harness"
)

const (
	// Puts through etcd in each of the three parts: before etcore joins, while it learns, and once it votes. The first must
	// be few: a leader that has compacted its log in memory, as etcd does after some hundred entries whatever its
	// flags say, sends a newcomer its database, which etcore does not take yet.
	putsAlone, putsLearning, putsVoting = 20, 5000, 5000
	// Puts that are under way at once.
	writers = 200
	// How long anything may take that is only waited for.
	patience = 30 * time.Second
	// Between two looks at what is waited for.
	pollInterval = 20 * time.Millisecond
)

// member is a server and a client of it alone.
type member struct {
	t      *testing.T
	server *harness.Server
	client *clientv3.Client
}

func join(t *testing.T, server *harness.Server) *member {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, DialTimeout: patience})
	check(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return &member{t: t, server: server, client: client}
}

func TestEtcoreJoinsACluster(t *testing.T) {
	program := harness.EtcoreOrReference(t)
	etcd := join(t, startEtcd(t))
	etcd.put("alone", putsAlone)

	etcore := join(t, startLearner(t, program, etcd.server))
	etcd.put("learning", putsLearning)
	etcore.awaitApplied(etcd)
	learns(t, etcd, etcore)

	etcd.promote(etcore.id())
	etcd.put("voting", putsVoting)
	writesThroughBoth(t, etcd, etcore)
	sameHashes(t, etcd, etcore)

	if state := etcore.server.Stop(t); state.Success() {
		t.Fatal("a signal is to end it by that signal")
	}
	etcore.server.Restart(t)
	writesThroughBoth(t, etcd, etcore)
	sameHashes(t, etcd, etcore)

	// While it was away etcd lost its quorum, and either may have been elected since.
	if etcd.status().Leader == etcd.id() {
		_, err := etcd.client.MoveLeader(within(t), etcore.id())
		check(t, err)
	}
	if leader := etcore.status().Leader; leader != etcore.id() {
		t.Fatalf("%x leads, not %x", leader, etcore.id())
	}
	etcd.put("led", 500)
	etcore.put("leading", 500)
	writesThroughBoth(t, etcd, etcore)
	sameHashes(t, etcd, etcore)
}

// TestJoiningIsRefused: nothing is written, so the next try can be right.
func TestJoiningIsRefused(t *testing.T) {
	program := harness.Etcore(t)
	etcd := startEtcd(t)
	cases := map[string]struct {
		cluster func(peer string) string
		text    string
	}{
		"a member that was not added": {
			func(peer string) string {
				return fmt.Sprintf("default=http://%s,joined=http://%s", etcd.Peer, peer)
			},
			"member count is unequal",
		},
		"nobody answers": {
			func(peer string) string { return fmt.Sprintf("default=http://127.0.0.1:1,joined=http://%s", peer) },
			"cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			log := harness.Refusal(t, program, harness.Options{FlagsAt: func(peer string) []string {
				return []string{
					"--name=joined",
					"--initial-cluster-state=existing",
					"--initial-advertise-peer-urls=http://" + peer,
					"--initial-cluster=" + c.cluster(peer),
				}
			}})
			if !strings.Contains(log, c.text) {
				t.Fatalf("no %q in\n%s", c.text, log)
			}
		})
	}
}

// startEtcd starts the cluster's first member. It keeps its log for who falls behind.
func startEtcd(t *testing.T) *harness.Server {
	t.Helper()
	return harness.Start(t, harness.Etcd37(t), harness.Options{FlagsAt: func(peer string) []string {
		return []string{
			"--initial-advertise-peer-urls=http://" + peer,
			"--initial-cluster=default=http://" + peer,
			"--snapshot-catchup-entries=100000",
		}
	}})
}

// startLearner adds a learner to the cluster and starts it.
func startLearner(t *testing.T, program harness.Program, etcd *harness.Server, flags ...string) *harness.Server {
	t.Helper()
	isAdded := false
	return harness.Start(t, program, harness.Options{Flags: flags, FlagsAt: func(peer string) []string {
		if !isAdded {
			etcdctl(t, etcd, "member", "add", "joined", "--learner", "--peer-urls=http://"+peer)
			isAdded = true
		}
		return []string{
			"--name=joined",
			"--initial-cluster-state=existing",
			"--initial-advertise-peer-urls=http://" + peer,
			fmt.Sprintf("--initial-cluster=default=http://%s,joined=http://%s", etcd.Peer, peer),
		}
	}})
}

// learns: a learner knows what it is, and answers only what it knows by itself.
func learns(t *testing.T, etcd, etcore *member) {
	t.Helper()
	if !etcore.status().IsLearner {
		t.Fatal("no learner")
	}
	last := fmt.Sprintf("learning/%d", putsLearning-1)
	got, err := etcore.client.Get(within(t), last, clientv3.WithSerializable())
	check(t, err)
	if got.Count != 1 {
		t.Fatalf("%s is not there", last)
	}
	const refused = "etcdserver: rpc not supported for learner"
	_, err = etcore.client.Get(within(t), last)
	expect(t, err, refused)
	_, err = etcore.client.Put(within(t), last, "")
	expect(t, err, refused)
	members, err := etcd.client.MemberList(within(t))
	check(t, err)
	for _, m := range members.Members {
		if m.ID == etcore.id() && (m.Name != "joined" || !m.IsLearner) {
			t.Fatalf("known as %v", m)
		}
	}
}

// writesThroughBoth: what one answered, the other reads at once.
func writesThroughBoth(t *testing.T, a, b *member) {
	t.Helper()
	for i := range 20 {
		writer, reader := a, b
		if i%2 == 1 {
			writer, reader = b, a
		}
		value := fmt.Sprint(time.Now().UnixNano())
		_, err := writer.client.Put(within(t), "both", value)
		check(t, err)
		got, err := reader.client.Get(within(t), "both")
		check(t, err)
		if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
			t.Fatalf("read %v, not %s", got.Kvs, value)
		}
	}
}

// sameHashes compares at the newest revision and at two older ones.
func sameHashes(t *testing.T, a, b *member) {
	t.Helper()
	newest := a.status().Header.Revision
	for _, revision := range []int64{newest, newest / 2, 2} {
		if ours, theirs := a.hash(revision), b.hash(revision); ours != theirs {
			t.Fatalf("revision %d: hash %d and %d", revision, ours, theirs)
		}
	}
}

func (m *member) hash(revision int64) uint32 {
	m.t.Helper()
	response, err := m.client.HashKV(within(m.t), m.server.Endpoint, revision)
	check(m.t, err)
	if response.HashRevision != revision {
		m.t.Fatalf("hashed revision %d, not %d", response.HashRevision, revision)
	}
	return response.Hash
}

func (m *member) status() *clientv3.StatusResponse {
	m.t.Helper()
	status, err := m.client.Status(within(m.t), m.server.Endpoint)
	check(m.t, err)
	return status
}

func (m *member) id() uint64 {
	m.t.Helper()
	return m.status().Header.MemberId
}

// put writes that many pairs, many at once, and a few keys again and again.
func (m *member) put(prefix string, count int) {
	m.t.Helper()
	ctx := within(m.t)
	numbers := make(chan int)
	var group sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range numbers {
				key := fmt.Sprintf("%s/%d", prefix, i)
				if i%5 == 0 {
					key = fmt.Sprintf("again/%d", i%7)
				}
				if _, err := m.client.Put(ctx, key, strings.Repeat("v", i%300)); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var err error
	for i := 0; i < count && err == nil; i++ {
		select {
		case numbers <- i:
		case err = <-errs:
		}
	}
	close(numbers)
	group.Wait()
	check(m.t, err)
}

// awaitApplied waits until this member has applied what the other one has.
func (m *member) awaitApplied(other *member) {
	m.t.Helper()
	index := other.status().RaftAppliedIndex
	poll(m.t, func() error {
		if applied := m.status().RaftAppliedIndex; applied < index {
			return fmt.Errorf("applied %d of %d", applied, index)
		}
		return nil
	})
}

// promote gives a learner its vote, as soon as its leader has heard how far it is.
func (m *member) promote(id uint64) {
	m.t.Helper()
	poll(m.t, func() error {
		_, err := m.client.MemberPromote(within(m.t), id)
		return err
	})
}

func poll(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(pollInterval)
	}
}

func etcdctl(t *testing.T, server *harness.Server, arguments ...string) {
	t.Helper()
	command := exec.Command(harness.Tool(t, "bin/etcdctl"), append(arguments, "--endpoints="+server.Endpoint)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl %v: %v\n%s", arguments, err, output)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func expect(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v, not %q", err, text)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
