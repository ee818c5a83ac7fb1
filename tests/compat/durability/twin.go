package durability

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Environment variables that make the tests of changing hands long.
const (
	roundsVariable = "ETCORE_HANDS_ROUNDS"
	callsVariable  = "ETCORE_HANDS_CALLS"
)

// number is a setting from the environment.
func number(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return value
}

// twin is a real etcd that gets every call the directory under test gets, and
// is never restarted: the model that all contents are compared with.
type twin struct {
	connection *grpc.ClientConn
	player     *differential.Player
	calls      int
	// readsNoPast keeps transactions from reading at a revision of the caller's.
	//
	// etcd 3.6 takes the ranges out of a transaction that nobody waits for, as
	// at a start, before it checks them (applyEntryNormal in server.go,
	// removeNeedlessRangeReqs). One that was refused because its range is
	// compacted or of the future is then applied after all, by etcd 3.6 itself
	// as well; 3.7 checks first, and so does etcore.
	readsNoPast bool
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	server := harness.Start(t, harness.Etcd37(t), harness.Options{Flags: []string{"--unsafe-no-fsync"}})
	connection := server.Connection(t)
	return &twin{connection: connection, player: differential.NewPlayer(connection)}
}

// play makes calls on both, side by side.
func (w *twin) play(t *testing.T, server *harness.Server, calls []differential.Call) {
	t.Helper()
	subject := differential.NewPlayerAt(server.Connection(t), revision(t, server))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.player.Play(calls)
	}()
	play(t, subject, calls)
	<-done
	w.calls += len(calls)
}

// work plays the next so many random calls.
func (w *twin) work(t *testing.T, server *harness.Server, count int) {
	t.Helper()
	calls := differential.Workload(workloadSeed+uint64(w.calls), count)
	if w.readsNoPast {
		for _, call := range calls {
			if txn, ok := call.Request.(*pb.TxnRequest); ok {
				readNow(txn)
			}
		}
	}
	w.play(t, server, calls)
}

// readNow makes all ranges of a transaction read the newest revision.
func readNow(txn *pb.TxnRequest) {
	for _, op := range append(slices.Clone(txn.Success), txn.Failure...) {
		switch request := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			request.RequestRange.Revision = 0
		case *pb.RequestOp_RequestTxn:
			readNow(request.RequestTxn)
		}
	}
}

// workUntil plays until the db has seen so many commits in all.
func (w *twin) workUntil(t *testing.T, server *harness.Server, commits uint64) {
	t.Helper()
	d := directory(server.DataDir)
	for deadline := time.Now().Add(2 * time.Minute); d.commits() < commits; {
		if time.Now().After(deadline) {
			t.Fatalf("%d commits after %d calls, wanted %d", d.commits(), w.calls, commits)
		}
		w.work(t, server, 50)
	}
}

// beginCompaction leaves a server in the middle of a large compaction.
func (w *twin) beginCompaction(t *testing.T, server *harness.Server) {
	t.Helper()
	calls := make([]differential.Call, 0, 200)
	for round := range 200 {
		txn := &pb.TxnRequest{}
		for i := range 100 {
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
				Key: []byte("swept/" + strconv.Itoa(i)), Value: []byte(strconv.Itoa(round)),
			}}})
		}
		calls = append(calls, differential.Call{Method: "/etcdserverpb.KV/Txn", Request: txn})
	}
	w.play(t, server, calls)
	compact := &pb.CompactionRequest{Revision: revision(t, server) - 40}
	w.play(t, server, []differential.Call{{Method: "/etcdserverpb.KV/Compact", Request: compact}})
}

// requireSame compares all contents with the model's.
func (w *twin) requireSame(t *testing.T, server *harness.Server) {
	t.Helper()
	requireContents(t, server.Connection(t), read(t, w.connection))
}
