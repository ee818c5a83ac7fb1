package harness

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// CopyDataDir copies a data directory file by file into a new folder.
func CopyDataDir(t testing.TB, source string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "data")
	copyTree(t, source, target)
	return target
}

// CopyWalOnly copies the WAL of a data directory and leaves an empty member/snap.
func CopyWalOnly(t testing.TB, source string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(target, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(source, "member", "wal"), filepath.Join(target, "member", "wal"))
	return target
}

func copyTree(t testing.TB, source, target string) {
	t.Helper()
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(target, relative), 0o700)
		}
		return copyFile(path, filepath.Join(target, relative))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(source, target string) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := copySparse(to, from); err != nil {
		_ = to.Close()
		return err
	}
	return to.Close()
}

// copySparse leaves holes for zeros: most of a claimed WAL segment is.
func copySparse(to *os.File, from io.Reader) error {
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	size := int64(0)
	for {
		n, err := io.ReadFull(from, block)
		if !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := to.WriteAt(block[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return to.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}
