package differential

import (
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
