package durability

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"
)

// TestStoreIsReadByEtcdsTools has etcd's own tools judge the db file.
func TestStoreIsReadByEtcdsTools(t *testing.T) {
	t.Run("after a stop", func(t *testing.T) {
		t.Parallel()
		server := busyServer(t)
		wanted := read(t, server.Connection(t))
		server.Stop(t)
		requireTools(t, server.DataDir, &wanted)
	})
	t.Run("killed under load", func(t *testing.T) {
		t.Parallel()
		server := busyServer(t)
		for round := range 5 {
			var load sync.WaitGroup
			load.Go(func() {
				// Ends when the server does.
				player := differential.NewPlayerAt(server.Connection(t), 1)
				player.Play(differential.Workload(uint64(round), 100_000))
			})
			d := directory(server.DataDir)
			for target := d.commits() + 3; d.commits() < target && server.Running(); {
				sleepShortly()
			}
			server.Kill()
			load.Wait()
			requireTools(t, server.DataDir, nil)
			server.Restart(t)
		}
	})
}

// busyServer has applied a workload over several commits of its db, which it maps.
func busyServer(t *testing.T) *harness.Server {
	t.Helper()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{Flags: manySnapshots})
	model := newTwin(t)
	model.workUntil(t, server, directory(server.DataDir).commits()+5)
	model.requireSame(t, server)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", server.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(maps), directory(server.DataDir).db()) {
		t.Fatalf("the db is not mapped:\n%s", maps)
	}
	return server
}

func requireTools(t *testing.T, dataDir string, wanted *contents) {
	t.Helper()
	// The tools lock, and may write.
	path := directory(harness.CopyDataDir(t, dataDir)).db()
	if out := tool(t, "bin/bbolt", "check", path); !strings.Contains(out, "OK") {
		t.Fatalf("bbolt check: %s", out)
	}
	var status struct {
		Hash, Revision, TotalKey, TotalSize int64
		Version                             string
	}
	decode(t, tool(t, "bin/etcdutl", "snapshot", "status", path, "-w", "json"), &status)
	if status.Version != "3.7.0" || status.Revision < 2 {
		t.Fatalf("snapshot status: %+v", status)
	}
	var hash struct{ Hash, HashRevision, CompactRevision int64 }
	decode(t, tool(t, "bin/etcdutl", "hashkv", path, "-w", "json"), &hash)
	if wanted == nil {
		return
	}
	// A stop leaves everything in the db.
	if hash.HashRevision != wanted.Revision || hash.CompactRevision != wanted.CompactRevision ||
		uint32(hash.Hash) != wanted.Hashes[0].Hash {
		t.Fatalf("etcdutl hashkv: %+v, wanted %v at %d", hash, wanted.Hashes[0], wanted.Revision)
	}
}

func tool(t *testing.T, name string, words ...string) string {
	t.Helper()
	output, err := exec.Command(harness.Tool(t, name), words...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, words, err, output)
	}
	return string(output)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
