package harness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// EtcoreVariable names the environment variable with the path of the etcore binary.
const EtcoreVariable = "ETCORE_BIN"

// Program is a server binary under test.
type Program struct {
	Name string
	Path string
	// Flags of this program alone, beside those that all servers get.
	Flags []string
}

// Etcd37 is the real etcd 3.7, the reference of every comparison.
func Etcd37(t testing.TB) Program {
	t.Helper()
	return Program{Name: "etcd37", Path: Tool(t, "bin/etcd")}
}

// Etcd36 is the real etcd 3.6.
func Etcd36(t testing.TB) Program {
	t.Helper()
	return Program{Name: "etcd36", Path: Tool(t, "etcd36/bin/etcd")}
}

// Etcore is the server under test. Where ETCORE_BIN is not set the test is
// skipped, but fails on continuous integration: there nothing may be left out.
func Etcore(t testing.TB) Program {
	t.Helper()
	path := os.Getenv(EtcoreVariable)
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set", EtcoreVariable)
		}
		t.Skipf("%s is not set", EtcoreVariable)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	mustExist(t, absolute, "build the server first")
	return Program{Name: "etcore", Path: absolute}
}

// EtcoreOrReference is etcore where it is available, else the reference once
// more: a comparison is then a test of the test itself.
func EtcoreOrReference(t testing.TB) Program {
	t.Helper()
	if os.Getenv(EtcoreVariable) == "" && os.Getenv("CI") != "true" {
		t.Logf("%s is not set: comparing the reference with itself", EtcoreVariable)
		return Etcd37(t)
	}
	return Etcore(t)
}

// Tool is the path of a program that build.sh made, named relative to tests/compat.
func Tool(t testing.TB, relative string) string {
	t.Helper()
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("the path of the harness is unknown")
	}
	root := filepath.Dir(filepath.Dir(source))
	path := filepath.Join(root, filepath.FromSlash(relative))
	mustExist(t, path, "run tests/compat/build.sh first")
	return path
}

func mustExist(t testing.TB, path, advice string) {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s does not exist: %s", path, advice)
	} else if err != nil {
		t.Fatal(err)
	}
}
