package differential

import (
	"bytes"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Here both servers do something in their own time. The test waits until each
// has, and compares then.

const awaitTimeout = 30 * time.Second

func startPair(t *testing.T, flags ...string) *Pair {
	t.Helper()
	setup := pairSetup(t)
	setup.Options.Flags = append(setup.Options.Flags, flags...)
	pair, err := NewPair(setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pair.Close)
	return pair
}

func requireSteps(t *testing.T, pair *Pair, calls ...Call) {
	t.Helper()
	for _, call := range calls {
		if step := pair.Do(call); step.Difference != "" {
			t.Fatal(step)
		}
	}
}

// await repeats a call on one side until its outcome is the wanted one.
func await(t *testing.T, side *side, call Call, wanted func(Outcome) bool) {
	t.Helper()
	deadline := time.Now().Add(awaitTimeout)
	for {
		outcome := side.do(call, 0)
		if wanted(outcome) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %s after %s", side.server.Program.Name, outcome, awaitTimeout)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestLeasesExpireAlike(t *testing.T) {
	t.Parallel()
	pair := startPair(t)
	requireSteps(t, pair,
		put("a", "1"), grant(1, 2), grant(2, 5000), attach("c", 1), attach("a", 1), attach("b", 1), attach("d", 2), timeToLive(1))
	start := time.Now()
	gone := func(outcome Outcome) bool {
		response, ok := outcome.Response.(*pb.LeaseTimeToLiveResponse)
		return ok && response.TTL == -1
	}
	for _, side := range []*side{&pair.reference, &pair.subject} {
		await(t, side, timeToLive(1), gone)
		if lived := time.Since(start); lived < time.Second {
			t.Fatalf("%s: a lease of 2 seconds lived %s", side.server.Program.Name, lived)
		}
	}
	requireSteps(t, pair,
		timeToLive(1), everything(0), everything(Now(0)), hashKV(0), revoke(1), timeToLive(2), attach("a", 1), put("z", "1"), everything(0))
}

func TestSpaceRunsOutAlike(t *testing.T) {
	t.Parallel()
	pair := startPair(t, "--quota-backend-bytes=20000000")
	requireSteps(t, pair, grant(1, 5000), put("small", "v"))
	// How many puts fit is each server's own business: their stores differ in
	// size. All go to one key, so both have the same keys afterwards.
	large := putWith(&pb.PutRequest{Key: []byte("large"), Value: bytes.Repeat([]byte("x"), 1<<20)})
	refused := func(outcome Outcome) bool { return outcome.Status.Code() == codes.ResourceExhausted }
	for _, side := range []*side{&pair.reference, &pair.subject} {
		await(t, side, large, refused)
	}
	show, deactivate := pb.AlarmRequest_GET, pb.AlarmRequest_DEACTIVATE
	for _, call := range []Call{
		large, put("small", "w"), grant(2, 100), txn(nil, ops(put("small", "w")), nil), txn(nil, nil, ops(put("small", "w"))),
		alarm(show, pb.AlarmType_NONE), alarm(show, pb.AlarmType_NOSPACE), memberStatus(), get("small"), del("small"), del("small"),
		txn(nil, ops(get("small")), nil), timeToLive(1), revoke(1), get("small"),
		onThisMember(alarm(deactivate, pb.AlarmType_NOSPACE)), alarm(show, pb.AlarmType_NONE), large, alarm(show, pb.AlarmType_NONE),
	} {
		requireSameButRevision(t, pair, call)
	}
}

// requireSameButRevision compares where the servers have made different
// numbers of writes.
func requireSameButRevision(t *testing.T, pair *Pair, call Call) {
	t.Helper()
	outcomes := [2]Outcome{pair.reference.do(call, 0), pair.subject.do(call, 0)}
	for _, outcome := range outcomes {
		if outcome.Response != nil {
			eachMessage(outcome.Response.ProtoReflect(), func(message protoreflect.Message) {
				if header, ok := message.Interface().(*pb.ResponseHeader); ok {
					header.Revision = 0
				}
			})
		}
	}
	if difference := compare(call, outcomes[0], outcomes[1]); difference != "" {
		t.Fatal(Step{Call: call, Reference: outcomes[0], Subject: outcomes[1], Difference: difference})
	}
}
