package durability

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/harness"
)

// directory is a data directory of a member that does not run, or of one that
// does and is only looked at.
type directory string

func (d directory) db() string   { return filepath.Join(string(d), "member", "snap", "db") }
func (d directory) snap() string { return filepath.Join(string(d), "member", "snap") }
func (d directory) wal() string  { return filepath.Join(string(d), "member", "wal") }

// intact is the copy that keepIntact made before the directory was tampered with.
func (d directory) intact() string { return string(d) + ".intact" }

func (d directory) keepIntact(t *testing.T) {
	t.Helper()
	if err := os.Rename(harness.CopyDataDir(t, string(d)), d.intact()); err != nil {
		t.Fatal(err)
	}
}

// segments are the WAL's files, oldest first.
func (d directory) segments(t *testing.T) []string { return sorted(t, d.wal(), "*.wal") }

// snapshots are the .snap files, oldest first.
func (d directory) snapshots(t *testing.T) []string { return sorted(t, d.snap(), "*.snap") }

func sorted(t *testing.T, folder, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

// commits is how many commits the db file has seen, 0 if there is no whole one.
func (d directory) commits() uint64 {
	meta, err := readMeta(d.db())
	if err != nil {
		return 0
	}
	return meta.txid
}

// bboltMeta is the meta page of a db file that counts.
type bboltMeta struct {
	pageSize uint32
	rootPage uint64
	freelist uint64
	txid     uint64
	page     int // 0 or 1
}

const (
	metaMagic      = 0xed0cdaed
	pageHeaderLen  = 16
	metaLen        = 64
	usualPageSize  = 4096
	noFreelistPage = ^uint64(0)
)

// readMeta looks at both meta pages. The bbolt library would wait for the lock
// of a running server; a meta page that is just being written shows as invalid.
func readMeta(path string) (bboltMeta, error) {
	file, err := os.Open(path)
	if err != nil {
		return bboltMeta{}, err
	}
	defer file.Close()
	var newest bboltMeta
	found := false
	for page := range 2 {
		bytes := make([]byte, metaLen)
		if _, err := file.ReadAt(bytes, int64(page)*usualPageSize+pageHeaderLen); err != nil {
			return bboltMeta{}, err
		}
		if !isMeta(bytes) {
			continue
		}
		meta := bboltMeta{
			pageSize: binary.LittleEndian.Uint32(bytes[8:]),
			rootPage: binary.LittleEndian.Uint64(bytes[16:]),
			freelist: binary.LittleEndian.Uint64(bytes[32:]),
			txid:     binary.LittleEndian.Uint64(bytes[48:]),
			page:     page,
		}
		if !found || meta.txid > newest.txid {
			newest, found = meta, true
		}
	}
	if !found {
		return bboltMeta{}, errors.New("no valid meta page")
	}
	return newest, nil
}

func isMeta(bytes []byte) bool {
	return binary.LittleEndian.Uint32(bytes) == metaMagic &&
		binary.LittleEndian.Uint64(bytes[56:]) == metaChecksum(bytes)
}

func metaChecksum(bytes []byte) uint64 {
	sum := fnv.New64a()
	_, _ = sum.Write(bytes[:56])
	return sum.Sum64()
}

// change edits the bytes of a file.
func change(t *testing.T, path string, edit func(file *os.File) error) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(edit(file), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// dataEnd is where the last byte of a file that is not zero ends.
func dataEnd(t *testing.T, path string) int64 {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes)
	for end > 0 && bytes[end-1] == 0 {
		end--
	}
	if end == 0 {
		t.Fatalf("%s is empty", path)
	}
	return int64(end)
}

// copyOver replaces one file by a copy of another.
func copyOver(t *testing.T, source, target string) {
	t.Helper()
	bytes, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
}

// receivedDbName is the name of a database that came with a snapshot.
func receivedDbName(index uint64) string { return fmt.Sprintf("%016x.snap.db", index) }

// snapIndex is the index in the name of a .snap file.
func snapIndex(t *testing.T, path string) uint64 {
	t.Helper()
	var term, index uint64
	if _, err := fmt.Sscanf(filepath.Base(path), "%016x-%016x.snap", &term, &index); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return index
}

// segmentIndex is the index in the name of a segment: of the first entry in it.
func segmentIndex(t *testing.T, path string) uint64 {
	t.Helper()
	var sequence, index uint64
	if _, err := fmt.Sscanf(filepath.Base(path), "%016x-%016x.wal", &sequence, &index); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return index
}

// sleepShortly is the pause between two looks at a file that a server writes.
func sleepShortly() { time.Sleep(20 * time.Millisecond) }
