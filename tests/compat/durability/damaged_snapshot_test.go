package durability

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcore/tests/compat/harness"
)

// digestLen is the length of the SHA-256 behind a snapshot.
const digestLen = 32

// damages are what can become of a snapshot on its way, and what etcdutl says to each.
var damages = map[string]struct {
	of   func(snapshot []byte) []byte
	text string
	// bbolt sees it as well, which looks at pages but at no values.
	isOfPages bool
}{
	"without its digest": {of: func(s []byte) []byte { return s[:len(s)-digestLen] }, text: "snapshot missing hash"},
	"one octet short":    {of: func(s []byte) []byte { return s[:len(s)-1] }, text: "snapshot missing hash"},
	"half":               {of: func(s []byte) []byte { return s[:len(s)/2] }, text: "snapshot missing hash", isOfPages: true},
	"a page short, with a digest": {of: func(s []byte) []byte {
		pages := len(s) - digestLen
		return append(append([]byte{}, s[:pages-4096]...), s[pages:]...)
	}, text: "expected sha256"},
	"half, with a digest": {of: func(s []byte) []byte {
		pages := len(s) - digestLen
		return append(append([]byte{}, s[:pages/2/4096*4096]...), s[pages:]...)
	}, text: "expected sha256", isOfPages: true},
	"a bit of the digest":      {of: func(s []byte) []byte { return flipped(s, len(s)-1) }, text: "expected sha256"},
	"a bit in the middle":      {of: func(s []byte) []byte { return flipped(s, len(s)/2) }, text: "expected sha256"},
	"a bit of both meta pages": {of: func(s []byte) []byte { return flipped(flipped(s, 16), 4096+16) }, text: "expected sha256", isOfPages: true},
	"a page that does not belong": {of: func(s []byte) []byte {
		return append(append(append([]byte{}, s[:8192]...), make([]byte, 4096)...), s[8192:]...)
	}, text: "expected sha256", isOfPages: true},
}

func flipped(octets []byte, at int) []byte {
	damaged := append([]byte{}, octets...)
	damaged[at] ^= 1
	return damaged
}

// A snapshot that was cut short or damaged is refused by etcd's tools, whoever made it.
func TestDamagedSnapshotsAreRefused(t *testing.T) {
	programs := map[string]harness.Program{"etcd": harness.Etcd37(t), "etcore": harness.EtcoreOrReference(t)}
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := startWithWorkload(t, program, nil)
			whole := filepath.Join(t.TempDir(), "whole.db")
			etcdctl(t, server, "snapshot", "save", whole)
			requireStatus(t, whole)
			snapshot, err := os.ReadFile(whole)
			if err != nil {
				t.Fatal(err)
			}
			for damage, made := range damages {
				t.Run(damage, func(t *testing.T) { requireRefused(t, made.of(snapshot), made.text, made.isOfPages) })
			}
		})
	}
}

func requireRefused(t *testing.T, snapshot []byte, text string, isOfPages bool) {
	t.Helper()
	folder := t.TempDir()
	path, restored := filepath.Join(folder, "damaged.db"), filepath.Join(folder, "restored")
	if err := os.WriteFile(path, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	if isOfPages {
		if out, err := exec.Command(harness.Tool(t, "bin/bbolt"), "check", path).CombinedOutput(); err == nil {
			t.Errorf("bbolt check: %s", out)
		}
	}
	restore := exec.Command(harness.Tool(t, "bin/etcdutl"), "snapshot", "restore", path, "--data-dir", restored, "--name", "default",
		"--initial-cluster", "default="+harness.AdvertisedPeerURL, "--initial-advertise-peer-urls", harness.AdvertisedPeerURL)
	out, err := restore.CombinedOutput()
	if err == nil || !strings.Contains(string(out), text) {
		t.Errorf("etcdutl snapshot restore: %v, wanted %q in\n%s", err, text, out)
	}
}
