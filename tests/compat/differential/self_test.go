package differential

import (
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The comparison itself is tested on a pair of references, one of which lies.

const tamperedCalls = 300

func TestPlantedDifferencesAreFound(t *testing.T) {
	plants := map[string]func(Call, *Outcome){
		"a version one too high": func(call Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*pb.RangeResponse); ok {
				for _, kv := range response.Kvs {
					if string(kv.Key) == "k3" {
						kv.Version++
					}
				}
			}
		},
		"another error text": func(call Call, outcome *Outcome) {
			if outcome.Status.Code() == codes.OutOfRange {
				outcome.Status = status.New(codes.OutOfRange, "mvcc: required revision has been compacted")
			}
		},
		"a missing header in a nested answer": func(call Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*pb.TxnResponse); ok && len(response.Responses) > 1 {
				if inner := response.Responses[1].GetResponsePut(); inner != nil {
					inner.Header = nil
				}
			}
		},
	}
	for name, tamper := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setup := referenceWithItself(t)
			setup.Tamper = tamper
			calls := newGenerator(7, leasesOfClient).Calls(tamperedCalls)
			steps, err := Run(setup, calls)
			if err != nil {
				t.Fatal(err)
			}
			if !differs(steps) {
				t.Fatalf("%d calls without a difference", len(steps))
			}
			requireShort(t, setup, calls[:len(steps)])
		})
	}
}

// The same of what watchers are told: each fault must be seen, whether the servers
// differ in it or the subject alone breaks a promise.
func TestPlantedFaultsOfWatchesAreFound(t *testing.T) {
	late := func(response *pb.WatchResponse) bool {
		return len(response.Events) > 0 && response.Header.Revision > 30
	}
	plants := map[string]func(*pb.WatchResponse){
		"an event is missing": func(response *pb.WatchResponse) {
			if late(response) && len(response.Events) > 1 {
				response.Events = response.Events[1:]
			}
		},
		"an event comes twice": func(response *pb.WatchResponse) {
			if late(response) {
				response.Events = append(response.Events, response.Events[0])
			}
		},
		"events of a revision change places": func(response *pb.WatchResponse) {
			if late(response) && len(response.Events) > 1 {
				slices.Reverse(response.Events)
			}
		},
		"a previous pair is not shown": func(response *pb.WatchResponse) {
			if late(response) {
				response.Events[0].PrevKv = nil
			}
		},
		"a filter does not filter": func(response *pb.WatchResponse) {
			if late(response) {
				response.Events[0].Type = mvccpb.Event_DELETE - response.Events[0].Type
			}
		},
		"progress is told too early": func(response *pb.WatchResponse) {
			if response.WatchId == progressAll && !response.Created {
				response.Header.Revision += 5
			}
		},
		"a watcher is told of another one": func(response *pb.WatchResponse) {
			if late(response) {
				response.WatchId++
			}
		},
		"the header is behind the events": func(response *pb.WatchResponse) {
			if late(response) {
				response.Header.Revision--
			}
		},
	}
	for name, tamper := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setup := referenceWithItself(t)
			setup.TamperWatch = tamper
			steps, err := Run(setup, newWatchedGenerator(7, leasesOfClient).Calls(2*tamperedCalls+2*watchersWanted))
			if err != nil {
				t.Fatal(err)
			}
			if !differs(steps) {
				t.Fatalf("%d calls without a difference", len(steps))
			}
			t.Log(steps[len(steps)-1].Difference)
		})
	}
}

// requireShort checks that shrinking leaves a handful of calls.
func requireShort(t *testing.T, setup Setup, calls []Call) {
	t.Helper()
	const enough = 4
	shrunk := Shrink(setup, calls, 2*time.Minute)
	steps, err := Run(setup, shrunk)
	if err != nil {
		t.Fatal(err)
	}
	if !differs(steps) || len(steps) > enough {
		t.Fatalf("%d calls shrunk to %d:\n%s", len(calls), len(steps), Report(steps))
	}
	t.Logf("%d calls shrunk to %d", len(calls), len(steps))
}

func referenceWithItself(t *testing.T) Setup {
	t.Helper()
	return Setup{
		Reference: harness.Etcd37(t),
		Subject:   harness.Etcd37(t),
		Options:   harness.Options{Scratch: t.TempDir(), Flags: []string{"--unsafe-no-fsync"}},
	}
}
