package durability

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"
)

// TestSnapshotsChangeHands saves snapshots with etcdctl while writes go on. The
// real etcdutl, which checks their digests, restores those of either program
// into the other one; what was there before the snapshot must be there after.
func TestSnapshotsChangeHands(t *testing.T) {
	etcore, etcd := harness.EtcoreOrReference(t), harness.Etcd37(t)
	hands := map[string][2]harness.Program{
		"from etcore to etcd": {etcore, etcd}, "from etcd to etcore": {etcd, etcore}, "within etcore": {etcore, etcore},
	}
	for name, programs := range hands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, wanted := startWithWorkload(t, programs[0], nil)
			idle := filepath.Join(t.TempDir(), "idle.db")
			etcdctl(t, server, "snapshot", "save", idle)
			requireStatus(t, idle)
			requireRestored(t, programs[1], idle, wanted)

			busy := filepath.Join(t.TempDir(), "busy.db")
			saveUnderLoad(t, server, busy)
			requireStatus(t, busy)
			restored := startRestored(t, programs[1], busy)
			if got := revision(t, restored); got < wanted.Revision {
				t.Fatalf("the snapshot has revision %d, %d was there before it", got, wanted.Revision)
			}
		})
	}
}

// saveUnderLoad saves one while another client writes.
func saveUnderLoad(t *testing.T, server *harness.Server, path string) {
	t.Helper()
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		player := differential.NewPlayerAt(server.Connection(t), 1)
		for seed := uint64(1); ; seed++ {
			select {
			case <-stop:
				return
			default:
				player.Play(differential.Workload(seed, 100))
			}
		}
	})
	etcdctl(t, server, "snapshot", "save", path)
	close(stop)
	load.Wait()
}

func requireStatus(t *testing.T, path string) {
	t.Helper()
	var status struct {
		Revision int64
		Version  string
	}
	decode(t, tool(t, "bin/etcdutl", "snapshot", "status", path, "-w", "json"), &status)
	if status.Version != "3.7.0" || status.Revision < 2 {
		t.Fatalf("snapshot status: %+v", status)
	}
	if out := tool(t, "bin/bbolt", "check", path); !strings.Contains(out, "OK") {
		t.Fatalf("bbolt check: %s", out)
	}
}

// startRestored restores a snapshot with etcdutl and starts a server on it.
func startRestored(t *testing.T, program harness.Program, snapshot string) *harness.Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	tool(t, "bin/etcdutl", "snapshot", "restore", snapshot, "--data-dir", dir, "--name", "default",
		"--initial-cluster", "default="+harness.AdvertisedPeerURL,
		"--initial-advertise-peer-urls", harness.AdvertisedPeerURL)
	return harness.Start(t, program, harness.Options{DataDir: dir})
}

func requireRestored(t *testing.T, program harness.Program, snapshot string, wanted contents) {
	t.Helper()
	server := startRestored(t, program, snapshot)
	got := read(t, server.Connection(t))
	// The members are those that the restore was told.
	got.Members = wanted.Members
	if difference := wanted.difference(got); difference != "" {
		t.Fatal(difference)
	}
}
