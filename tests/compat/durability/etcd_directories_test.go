package durability

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Directories as etcd leaves them, in all the states that its rules of starting
// tell apart. Each is judged by the etcd that made it, on a copy.
var etcdDirectories = []struct {
	name   string
	make   func(t *testing.T, etcd harness.Program) directory
	wanted verdict
}{
	{"stopped in order", func(t *testing.T, etcd harness.Program) directory {
		return written(t, etcd, smallSnapshots, stop)
	}, starts},
	{"killed, db ahead of the snapshot", dbAheadOfSnapshot, starts},
	{"killed, db behind the snapshot", dbBehindSnapshot, replays},
	{"db removed, log whole", dbRemoved(nil), starts},
	{"db removed, snapshots there", dbRemoved(smallSnapshots), replays},
	{"purged log", purgedLog, starts},
	{"purged log and an old db", purgedLogOldDb, refuses},
	{"received db not swapped in", receivedDb, starts},
	{"db past the recorded commit", dbPastCommit, starts},
	{"last record cut", tornRecord(cutRecord), starts},
	{"last record without a sector", tornRecord(zeroSector), starts},
	{"temporary files", temporaryFiles, starts},
	{"a damaged snapshot file", damagedSnapshot, starts},
	{"two snapshots lost", lostSnapshots, starts},
}

type verdict int

const (
	// starts: etcd does, so etcore must and hold the same.
	starts verdict = iota
	// replays: etcd refuses, though the log has all that is missing; etcore takes it from there.
	replays
	// refuses: something is lost, and both say so.
	refuses
)

// smallSnapshots has a workload leave several .snap files.
var smallSnapshots = []string{"--snapshot-count=100"}

func TestStartsOnEtcdDirectories(t *testing.T) {
	for version, program := range map[string]func(testing.TB) harness.Program{
		"3.6": harness.Etcd36,
		"3.7": harness.Etcd37,
	} {
		for _, test := range etcdDirectories {
			t.Run(version+" "+test.name, func(t *testing.T) {
				t.Parallel()
				etcd, subject := program(t), harness.EtcoreOrReference(t)
				directory := test.make(t, etcd)
				theirs := harness.Options{DataDir: string(directory)}
				ours := harness.Options{DataDir: harness.CopyDataDir(t, string(directory))}
				if test.wanted != starts {
					harness.Refusal(t, etcd, theirs)
				}
				if test.wanted == refuses || test.wanted == replays && subject.Name != "etcore" {
					requireAdvice(t, subject, harness.Refusal(t, subject, ours))
					return
				}
				if test.wanted == replays {
					theirs.DataDir = directory.intact()
				}
				reference := harness.Start(t, etcd, theirs)
				wanted := read(t, reference.Connection(t))
				wanted.requireSubstance(t)
				reference.Kill()

				server := harness.Start(t, subject, ours)
				requireContents(t, server.Connection(t), wanted)
				requireNextWrite(t, server.Connection(t), wanted)
				longer := read(t, server.Connection(t))
				server.Kill()
				server.Restart(t)
				requireContents(t, server.Connection(t), longer)
			})
		}
	}
}

// The database may not know more than the log: the member would pass over
// entries that it has yet to receive. etcd starts all the same.
func TestRefusesDbPastLog(t *testing.T) {
	t.Parallel()
	subject := harness.Etcore(t)
	writer, _ := startWithWorkload(t, harness.Etcd37(t), nil)
	before := directory(harness.CopyDataDir(t, killed(t, writer)))
	writer.Restart(t)
	play(t, differential.NewPlayerAt(writer.Connection(t), 1), differential.Workload(workloadSeed+1, 200))
	awaitBackend(t, writer)
	after := directory(killed(t, writer))
	copyOver(t, after.db(), before.db())
	refusal := harness.Refusal(t, subject, harness.Options{DataDir: string(before)})
	requireAdvice(t, subject, refusal)
}

func stop(t *testing.T, server *harness.Server) { server.Stop(t) }
func kill(_ *testing.T, server *harness.Server) { server.Kill() }

func killed(t *testing.T, server *harness.Server) string {
	kill(t, server)
	return server.DataDir
}

// written is the directory of a workload.
func written(t *testing.T, etcd harness.Program, flags []string, end func(*testing.T, *harness.Server)) directory {
	t.Helper()
	writer, _ := startWithWorkload(t, etcd, flags)
	awaitBackend(t, writer)
	end(t, writer)
	return directory(writer.DataDir)
}

func dbAheadOfSnapshot(t *testing.T, etcd harness.Program) directory {
	made := written(t, etcd, smallSnapshots, kill)
	snapshots := made.snapshots(t)
	if len(snapshots) < 2 {
		t.Fatalf("%d snapshots", len(snapshots))
	}
	newest := snapIndex(t, snapshots[len(snapshots)-1])
	if index := consistentIndex(t, made); index <= newest {
		t.Fatalf("db at %d, the snapshot at %d", index, newest)
	}
	return made
}

// twoAges makes a directory, and the db that it had before it got its newest snapshot.
func twoAges(t *testing.T, etcd harness.Program, flags []string, later func(*testing.T, *harness.Server)) (directory, string) {
	t.Helper()
	writer, _ := startWithWorkload(t, etcd, flags)
	writer.Stop(t)
	old := filepath.Join(t.TempDir(), "old-db")
	copyOver(t, directory(writer.DataDir).db(), old)
	writer.Restart(t)
	later(t, writer)
	awaitBackend(t, writer)
	return directory(killed(t, writer)), old
}

func moreCalls(t *testing.T, server *harness.Server) {
	play(t, differential.NewPlayerAt(server.Connection(t), revision(t, server)), differential.Workload(workloadSeed+1, 600))
}

func dbBehindSnapshot(t *testing.T, etcd harness.Program) directory {
	made, old := twoAges(t, etcd, smallSnapshots, moreCalls)
	made.keepIntact(t)
	copyOver(t, old, made.db())
	return made
}

func dbRemoved(flags []string) func(*testing.T, harness.Program) directory {
	return func(t *testing.T, etcd harness.Program) directory {
		made := written(t, etcd, flags, kill)
		made.keepIntact(t)
		if err := os.Remove(made.db()); err != nil {
			t.Fatal(err)
		}
		return made
	}
}

// largeValues fills more than two segments.
func largeValues(t *testing.T, server *harness.Server) {
	value := bytes.Repeat([]byte("large "), (1<<20)/6)
	calls := make([]differential.Call, 150)
	for i := range calls {
		request := &pb.PutRequest{Key: fmt.Appendf(nil, "large/%d", i%5), Value: value}
		calls[i] = differential.Call{Method: "/etcdserverpb.KV/Put", Request: request}
	}
	play(t, differential.NewPlayerAt(server.Connection(t), 1), calls)
}

// purgedLog has lost the segments below its newest snapshot. etcd purges every
// 30 seconds; the test does it at once, by the same rule.
func purgedLog(t *testing.T, etcd harness.Program) directory {
	made, _ := purgedLogAndOldDb(t, etcd)
	return made
}

func purgedLogOldDb(t *testing.T, etcd harness.Program) directory {
	made, old := purgedLogAndOldDb(t, etcd)
	copyOver(t, old, made.db())
	return made
}

func purgedLogAndOldDb(t *testing.T, etcd harness.Program) (directory, string) {
	made, old := twoAges(t, etcd, []string{"--snapshot-count=20", "--max-wals=1"}, largeValues)
	snapshots, segments := made.snapshots(t), made.segments(t)
	newest := snapIndex(t, snapshots[len(snapshots)-1])
	removed := 0
	for ; removed+1 < len(segments) && segmentIndex(t, segments[removed+1]) <= newest; removed++ {
		if err := os.Remove(segments[removed]); err != nil {
			t.Fatal(err)
		}
	}
	if removed == 0 {
		t.Fatalf("no segment is below the snapshot at %d: %v", newest, segments)
	}
	return made, old
}

// receivedDb is what a follower leaves that crashed between storing a snapshot
// from its leader and taking over the database that came with it.
func receivedDb(t *testing.T, etcd harness.Program) directory {
	made, old := twoAges(t, etcd, smallSnapshots, moreCalls)
	snapshots := made.snapshots(t)
	newest := snapIndex(t, snapshots[len(snapshots)-1])
	copyOver(t, made.db(), filepath.Join(made.snap(), receivedDbName(newest)))
	copyOver(t, old, made.db())
	return made
}

// dbPastCommit is what a kill leaves: etcd writes that an entry is committed
// with the next one, while the backend has it within 100 ms.
func dbPastCommit(t *testing.T, etcd harness.Program) directory {
	writer, _ := startWithWorkload(t, etcd, nil)
	made := directory(writer.DataDir)
	for try := 1; ; try++ {
		put := differential.Call{Method: "/etcdserverpb.KV/Put", Request: &pb.PutRequest{Key: []byte("past")}}
		play(t, differential.NewPlayerAt(writer.Connection(t), 1), []differential.Call{put})
		awaitBackend(t, writer)
		writer.Kill()
		state, last := readLog(t, made)
		index := consistentIndex(t, made)
		if index > state.GetCommit() && index <= last {
			return made
		}
		if try == 10 {
			t.Fatalf("db at %d, commit %d, log up to %d: no kill fell into the gap", index, state.GetCommit(), last)
		}
		writer.Restart(t)
	}
}

// tornRecord tears the log's last record; the db is older than it.
func tornRecord(tear func(*os.File, int64) error) func(*testing.T, harness.Program) directory {
	return func(t *testing.T, etcd harness.Program) directory {
		made, old := twoAges(t, etcd, nil, func(t *testing.T, server *harness.Server) {
			// Longer than two sectors, so that one can go.
			call := differential.Call{Method: "/etcdserverpb.KV/Put",
				Request: &pb.PutRequest{Key: []byte("torn"), Value: bytes.Repeat([]byte("t"), 3000)}}
			play(t, differential.NewPlayerAt(server.Connection(t), 1), []differential.Call{call})
		})
		copyOver(t, old, made.db())
		segments := made.segments(t)
		last := segments[len(segments)-1]
		// The record ends with the run of t; a state record may follow.
		whole, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		end := bytes.LastIndex(whole, bytes.Repeat([]byte("t"), 3000)) + 3000
		change(t, last, func(file *os.File) error { return tear(file, int64(end)) })
		return made
	}
}

func cutRecord(file *os.File, end int64) error { return file.Truncate(end - 100) }

// zeroSector loses one sector in the middle of the record and what is behind it.
func zeroSector(file *os.File, end int64) error {
	first := (end - 1500) / 512 * 512
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := file.Truncate(first); err != nil {
		return err
	}
	return file.Truncate(info.Size())
}

func temporaryFiles(t *testing.T, etcd harness.Program) directory {
	made := written(t, etcd, smallSnapshots, kill)
	for _, path := range []string{
		filepath.Join(made.snap(), "db.tmp.1234"),
		filepath.Join(made.snap(), "tmp5678"),
		filepath.Join(made.snap(), "0000000000000002-0000000000000010.snap.broken"),
		filepath.Join(made.wal(), "0.tmp"),
		filepath.Join(made.wal(), "1.tmp"),
	} {
		if err := os.WriteFile(path, []byte("not a word of this is true"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

func damagedSnapshot(t *testing.T, etcd harness.Program) directory {
	made := written(t, etcd, smallSnapshots, kill)
	snapshots := made.snapshots(t)
	change(t, snapshots[len(snapshots)-1], func(file *os.File) error {
		_, err := file.WriteAt([]byte("damage"), 20)
		return err
	})
	return made
}

func lostSnapshots(t *testing.T, etcd harness.Program) directory {
	made := written(t, etcd, smallSnapshots, kill)
	snapshots := made.snapshots(t)
	for _, path := range snapshots[len(snapshots)-2:] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// revision is the newest one of a server.
func revision(t *testing.T, server *harness.Server) int64 {
	t.Helper()
	call := differential.Call{Method: "/etcdserverpb.KV/Range", Request: &pb.RangeRequest{Key: []byte("none")}}
	outcome := differential.NewPlayer(server.Connection(t)).Play([]differential.Call{call})[0]
	response, ok := outcome.Response.(*pb.RangeResponse)
	if !ok {
		t.Fatal(outcome)
	}
	return response.Header.Revision
}

// awaitBackend waits until a real etcd has written what it applied: the next
// commit of its backend after the last change is not far away.
func awaitBackend(t *testing.T, server *harness.Server) {
	t.Helper()
	d := directory(server.DataDir)
	deadline := time.Now().Add(20 * time.Second)
	for before, since := d.commits(), time.Now(); time.Since(since) < 400*time.Millisecond; {
		if now := d.commits(); now != before {
			before, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatal("the backend never comes to rest")
		}
		sleepShortly()
	}
}

// consistentIndex is the index of the last entry whose effects are in the db.
func consistentIndex(t *testing.T, d directory) uint64 {
	t.Helper()
	var index uint64
	viewDb(t, d.db(), func(tx *bbolt.Tx) error {
		index = binary.BigEndian.Uint64(tx.Bucket([]byte("meta")).Get([]byte("consistent_index")))
		return nil
	})
	return index
}

func viewDb(t *testing.T, path string, view func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(view); err != nil {
		t.Fatal(err)
	}
}

// readLog is the last state in a log, and the index of its last entry.
func readLog(t *testing.T, d directory) (*raftpb.HardState, uint64) {
	t.Helper()
	log, err := wal.OpenForRead(nil, d.wal(), &walpb.Snapshot{Index: proto.Uint64(0), Term: proto.Uint64(0)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, state, entries, err := log.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return state, entries[len(entries)-1].GetIndex()
}
