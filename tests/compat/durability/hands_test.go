package durability

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// manySnapshots brings checkpoints, snapshot files and released segments into a
// short test.
var manySnapshots = []string{"--snapshot-count=50", "--max-wals=2", "--max-snapshots=2"}

// handMoments are the moments at which etcd takes a directory over from etcore.
var handMoments = []struct {
	name  string
	flags []string
	work  func(*testing.T, *twin, *harness.Server)
}{
	{"no checkpoint", nil, func(t *testing.T, w *twin, s *harness.Server) { w.work(t, s, 100) }},
	{"a checkpoint", nil, func(t *testing.T, w *twin, s *harness.Server) {
		w.workUntil(t, s, directory(s.DataDir).commits()+1)
	}},
	{"many checkpoints", manySnapshots, func(t *testing.T, w *twin, s *harness.Server) {
		w.workUntil(t, s, directory(s.DataDir).commits()+30)
	}},
	{"a compaction", nil, func(t *testing.T, w *twin, s *harness.Server) {
		w.work(t, s, 200)
		w.beginCompaction(t, s)
	}},
	{"an alarm", manySnapshots, func(t *testing.T, w *twin, s *harness.Server) {
		w.work(t, s, 500)
		member := w.members(t)[0].ID
		w.play(t, s, []differential.Call{{Method: "/etcdserverpb.Maintenance/Alarm", Request: &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE,
		}}})
	}},
}

func (w *twin) members(t *testing.T) []*pb.Member { return read(t, w.connection).Members }

// TestDirectoriesChangeHands lets etcd go on where etcore stopped, and etcore
// where that etcd stopped.
func TestDirectoriesChangeHands(t *testing.T) {
	for _, moment := range handMoments {
		for name, end := range map[string]func(*testing.T, *harness.Server){"killed": kill, "stopped": stop} {
			t.Run(moment.name+", "+name, func(t *testing.T) {
				t.Parallel()
				subject := harness.EtcoreOrReference(t)
				model := newTwin(t)
				first := harness.Start(t, subject, harness.Options{Flags: moment.flags})
				moment.work(t, model, first)
				end(t, first)
				t.Logf("%d commits after %d calls", directory(first.DataDir).commits(), model.calls)

				// etcore itself is the first that must go on from there.
				again := harness.Start(t, subject, harness.Options{DataDir: harness.CopyDataDir(t, first.DataDir), Flags: moment.flags})
				model.requireSame(t, again)
				again.Kill()

				etcd := harness.Start(t, harness.Etcd37(t), harness.Options{
					DataDir: harness.CopyDataDir(t, first.DataDir), Flags: moment.flags})
				model.requireSame(t, etcd)
				model.work(t, etcd, 300)
				end(t, etcd)

				back := harness.Start(t, subject, harness.Options{DataDir: etcd.DataDir, Flags: moment.flags})
				model.requireSame(t, back)
			})
		}
	}
}

// TestRoundsOfChangingHands has one directory served by turns.
func TestRoundsOfChangingHands(t *testing.T) {
	for name, etcd := range map[string]func(testing.TB) harness.Program{"3.7": harness.Etcd37, "3.6": harness.Etcd36} {
		for _, flags := range [][]string{nil, manySnapshots} {
			t.Run(fmt.Sprint(name, " ", flags), func(t *testing.T) {
				t.Parallel()
				seed := uint64(number(t, "ETCORE_SEED", workloadSeed))
				random := rand.New(rand.NewPCG(seed, 0))
				// Begun by etcd, so that the cluster version is its own.
				subject := harness.EtcoreOrReference(t)
				if subject.Name != "etcore" {
					subject = etcd(t)
				}
				programs := []harness.Program{etcd(t), subject}
				model := newTwin(t)
				model.readsNoPast = name == "3.6"
				options := harness.Options{Flags: flags}
				for round := range 2 * number(t, roundsVariable, 5) {
					server := harness.Start(t, programs[round%2], options)
					model.requireSame(t, server)
					model.work(t, server, number(t, callsVariable, 300))
					if random.IntN(3) == 0 {
						model.beginCompaction(t, server)
					} else {
						model.requireSame(t, server)
					}
					options.DataDir = server.DataDir
					if random.IntN(2) == 0 {
						server.Kill()
					} else {
						server.Stop(t)
					}
				}
			})
		}
	}
}
