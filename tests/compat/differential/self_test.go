package differential

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
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

// The same of locks and elections, of what is answered at once, after a wait, or told to those
// who observe.
func TestPlantedFaultsOfSessionsAreFound(t *testing.T) {
	answer := func(tamper func(Call, *Outcome)) Setup { return Setup{Tamper: tamper} }
	told := func(tamper func(*epb.LeaderResponse) []*epb.LeaderResponse) Setup {
		return Setup{TamperObserve: tamper}
	}
	waits := func(tamper func(Call, <-chan Outcome) <-chan Outcome) Setup { return Setup{TamperWait: tamper} }
	plants := map[string]Setup{
		"a lock is got at another revision": answer(func(_ Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*lpb.LockResponse); ok {
				response.Header.Revision++
			}
		}),
		"another key is locked": answer(func(_ Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*lpb.LockResponse); ok && bytes.HasPrefix(response.Key, []byte("l/x")) {
				response.Key[0]++
			}
		}),
		"who waits is not bound to a lease": answer(func(call Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*pb.RangeResponse); ok && call.Method == methodCampaign {
				response.Kvs[0].Lease = 0
			}
		}),
		"a leader is of another revision": answer(func(_ Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*epb.CampaignResponse); ok {
				response.Leader.Rev++
			}
		}),
		"another leader is shown": answer(func(call Call, outcome *Outcome) {
			if response, ok := outcome.Response.(*epb.LeaderResponse); ok && call.Method == methodLeader {
				response.Kv.Lease++
			}
		}),
		"another refusal": answer(func(_ Call, outcome *Outcome) {
			if outcome.Status.Message() == "election: not leader" {
				outcome.Status = status.New(codes.FailedPrecondition, "election: not leader")
			}
		}),
		"a refusal of the gateway has another status": answer(func(call Call, outcome *Outcome) {
			if outcome.JSON != nil && outcome.JSON.HTTPStatus == http.StatusInternalServerError && call.Method == methodLock {
				outcome.JSON.HTTPStatus = http.StatusBadRequest
			}
		}),
		"a lock is given to two": waits(func(call Call, answers <-chan Outcome) <-chan Outcome {
			if call.Method != methodLock {
				return answers
			}
			return atOnce(outcomeOf(&lpb.LockResponse{}, nil))
		}),
		"two lead": waits(func(call Call, answers <-chan Outcome) <-chan Outcome {
			if call.Method != methodCampaign {
				return answers
			}
			return atOnce(outcomeOf(&epb.CampaignResponse{}, nil))
		}),
		"who waited is forgotten": waits(func(Call, <-chan Outcome) <-chan Outcome { return nil }),
		"a leader is not told of": told(func(response *epb.LeaderResponse) []*epb.LeaderResponse {
			if response.Kv.Version > 1 {
				return nil
			}
			return []*epb.LeaderResponse{response}
		}),
		"a leader is told of twice": told(func(response *epb.LeaderResponse) []*epb.LeaderResponse {
			return []*epb.LeaderResponse{response, response}
		}),
		"an old value is told": told(func(response *epb.LeaderResponse) []*epb.LeaderResponse {
			response.Kv.Value = []byte("old")
			return []*epb.LeaderResponse{response}
		}),
		"a leader is told of at another revision": told(func(response *epb.LeaderResponse) []*epb.LeaderResponse {
			response.Header.Revision--
			return []*epb.LeaderResponse{response}
		}),
	}
	g := newWatchedGenerator(7, leasesOfClient)
	calls := grants(1, 2, 3)
	for range tamperedCalls {
		calls = append(calls, g.session())
	}
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setup := referenceWithItself(t)
			setup.Tamper, setup.TamperWait, setup.TamperObserve = plant.Tamper, plant.TamperWait, plant.TamperObserve
			setup.Patience = 2 * time.Second // for those who are waited for in vain
			steps, err := Run(setup, calls)
			if err != nil {
				t.Fatal(err)
			}
			if !differs(steps) {
				t.Fatalf("%d calls without a difference", len(steps))
			}
			t.Logf("call %d: %s", len(steps), steps[len(steps)-1].Difference)
			if steps[len(steps)-1].Sessions.Waits > 0 {
				requireShort(t, setup, calls[:len(steps)]) // with those who are waited for
			}
		})
	}
}

// atOnce is an answer that has come.
func atOnce(early Outcome) <-chan Outcome {
	answers := make(chan Outcome, 1)
	answers <- early
	return answers
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
