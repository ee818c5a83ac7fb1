package differential

import (
	"os"
	"strconv"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"google.golang.org/grpc/codes"
)

// Environment variables that steer the random workloads.
const (
	seedVariable = "ETCORE_SEED"
	// usualSeed makes a change alone decide whether the tests pass; cargo xtask soak draws another.
	usualSeed      = 1
	callsVariable  = "ETCORE_DIFF_OPS"
	shrinkVariable = "ETCORE_SHRINK_SECONDS"
)

func TestRandomWorkload(t *testing.T) {
	compareWorkload(t, leasesOfClient, number(t, callsVariable, 20_000))
}

func TestRandomWorkloadWithLeasesOfServer(t *testing.T) {
	compareWorkload(t, leasesOfServer, number(t, callsVariable, 20_000)/4)
}

// TestRandomWorkloadOnTwoShards has every other call answered by another core than
// the one that keeps the log.
func TestRandomWorkloadOnTwoShards(t *testing.T) {
	setup := pairSetup(t)
	if setup.Subject.Name == "etcore" {
		setup.Subject.Flags = []string{"--shards=2", "--shard-placement=spread"}
	}
	compareWorkloadWith(t, setup, leasesOfClient, number(t, callsVariable, 20_000)/2)
}

func compareWorkload(t *testing.T, leases leaseChoice, count int) {
	compareWorkloadWith(t, pairSetup(t), leases, count)
}

func compareWorkloadWith(t *testing.T, setup Setup, leases leaseChoice, count int) {
	seed := uint64(number(t, seedVariable, usualSeed))
	t.Logf("%s=%d %s=%d", seedVariable, seed, callsVariable, count)
	requireSame(t, setup, newGenerator(seed, leases).Calls(count))
}

// pairSetup compares the reference with etcore.
func pairSetup(t *testing.T) Setup {
	t.Helper()
	return Setup{
		Reference: harness.Etcd37(t),
		Subject:   harness.EtcoreOrReference(t),
		Options:   harness.Options{Scratch: t.TempDir(), Flags: []string{"--unsafe-no-fsync"}},
	}
}

// requireSame fails with a shrunk history where two servers differ.
func requireSame(t *testing.T, setup Setup, calls []Call) []Step {
	t.Helper()
	start := time.Now()
	steps, err := Run(setup, calls)
	if err != nil {
		t.Fatal(err)
	}
	if !differs(steps) {
		t.Logf("%d calls alike: %v", len(steps), codesOf(steps))
		return steps
	}
	// A long history takes long to run again.
	budget := max(time.Duration(number(t, shrinkVariable, 60))*time.Second, 10*time.Since(start))
	t.Logf("call %d differs; shrinking", len(steps))
	shrunk, err := Run(setup, Shrink(setup, calls[:len(steps)], budget))
	if err != nil || !differs(shrunk) {
		shrunk = steps // depends on time: better the long history than none
	}
	t.Fatalf("the servers differ:\n%s", Report(shrunk))
	return nil
}

// codesOf counts the steps by status, to see that a workload reaches what it is for.
func codesOf(steps []Step) map[codes.Code]int {
	counts := map[codes.Code]int{}
	for _, step := range steps {
		counts[step.Reference.Status.Code()]++
	}
	return counts
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return value
}
