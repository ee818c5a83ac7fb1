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

// TestRandomWorkload calls all services while 200 watchers look on.
func TestRandomWorkload(t *testing.T) {
	compareWorkload(t, pairSetup(t), leasesOfClient, number(t, callsVariable, 20_000))
}

func TestRandomWorkloadWithLeasesOfServer(t *testing.T) {
	compareWorkload(t, pairSetup(t), leasesOfServer, number(t, callsVariable, 20_000)/5)
}

// TestRandomWorkloadOnTwoShards has every other call answered by another core than
// the one that keeps the log, and half of the watchers served there.
func TestRandomWorkloadOnTwoShards(t *testing.T) {
	setup := pairSetup(t)
	if setup.Subject.Name == "etcore" {
		setup.Subject.Flags = []string{"--shards=2", "--shard-placement=spread"}
	}
	compareWorkload(t, setup, leasesOfClient, number(t, callsVariable, 20_000)/4)
}

func compareWorkload(t *testing.T, setup Setup, leases leaseChoice, count int) {
	t.Helper()
	// So often that each watcher that wants to is told its progress now and then.
	setup.Options.Flags = append(setup.Options.Flags, "--watch-progress-notify-interval=300ms")
	steps := requireSame(t, setup, newWatchedGenerator(seedOf(t, count), leases).Calls(count))
	most, sessions := 0, sessionCounts{}
	for _, step := range steps {
		most = max(most, step.Watchers)
		sessions = sessions.plus(step.Sessions)
	}
	t.Logf("sessions: %+v", sessions)
	if few := count / 4000; sessions.Passed < few || sessions.Left < few || sessions.Told < few {
		t.Errorf("too little became of %d calls: %+v", count, sessions)
	}
	if most < watchersWanted {
		t.Errorf("never more than %d watchers were open", most)
	}
}

func seedOf(t *testing.T, count int) uint64 {
	t.Helper()
	seed := uint64(number(t, seedVariable, usualSeed))
	t.Logf("%s=%d %s=%d", seedVariable, seed, callsVariable, count)
	return seed
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
	t.Logf("call %d differs; shrinking: %s", len(steps), steps[len(steps)-1])
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
