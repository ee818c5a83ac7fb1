package protovec

import (
	"bytes"
	"flag"
	"reflect"
	"slices"
	"strings"
	"testing"

	golang "github.com/golang/protobuf/proto"

	_ "go.etcd.io/etcd/api/v3/authpb"
	_ "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "go.etcd.io/etcd/api/v3/membershippb"
	_ "go.etcd.io/etcd/api/v3/mvccpb"
	_ "go.etcd.io/etcd/api/v3/versionpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/snap/snappb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	_ "go.etcd.io/etcd/server/v3/lease/leasepb"
	_ "go.etcd.io/etcd/server/v3/storage/wal/walpb"
	_ "go.etcd.io/raft/v3/raftpb"
	_ "google.golang.org/grpc/health/grpc_health_v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	newerFile   = "etcd-3.7.1.vectors"
	newerSchema = "etcd-3.7.1.schema"
	vectorsFile = "etcd-3.6.14.vectors"
	ownFile     = "etcore.vectors"
)

// generated is what gogoproto makes of every message.
type generated interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// onlyOlder and onlyNewer are prefixes of the declarations that one version alone has.
var (
	onlyOlder = []string{
		"field etcdserverpb.InternalRaftRequest.v2 2 etcdserverpb.Request ",
		"field etcdserverpb.Request.",
		"message etcdserverpb.Request ",
	}
	onlyNewer = []string{
		"field etcdserverpb.RangeStreamResponse.",
		"message etcdserverpb.RangeStreamResponse ",
		"method etcdserverpb.KV.RangeStream ",
	}
)

// TestSchema compares the declarations of 3.6 with those of 3.7, which etcore's are compared with.
func TestSchema(t *testing.T) {
	newer, err := readLines(newerSchema)
	if err != nil {
		t.Fatal(err)
	}
	older := schema(versionOption)
	expectIn(t, newer, older, onlyOlder)
	expectIn(t, older, newer, onlyNewer)
}

func expectIn(t *testing.T, have, lines, exceptions []string) {
	t.Helper()
	for _, line := range lines {
		isPrefix := func(prefix string) bool { return strings.HasPrefix(line, prefix) }
		if slices.Contains(have, line) == slices.ContainsFunc(exceptions, isPrefix) {
			t.Errorf("in one version only, or no exception any more: %s", line)
		}
	}
}

// miswritten are vectors that gogoproto reads, but writes as bytes that nobody can read, itself
// included: its packed enums lose negative numbers.
var miswritten = map[string]bool{
	"etcdserverpb.WatchCreateRequest min": true,
}

// TestVectors reads what 3.7 wrote and keeps what 3.6 makes of it where the bytes differ.
func TestVectors(t *testing.T) {
	newer, err := readVectors(newerFile)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, vector := range newer {
		message, ok := newGenerated(vector.name)
		if !ok {
			continue
		}
		again := rewrite(t, vector, message)
		if again.bare != vector.bare {
			t.Errorf("%s %s:\n3.6 %s\n3.7 %s", vector.name, vector.variant, again.bare, vector.bare)
		}
		if isUnreadable := message.Unmarshal(again.bytes) != nil; isUnreadable {
			if !miswritten[vector.name+" "+vector.variant] {
				t.Errorf("%s %s: 3.6 cannot read its own %x", vector.name, vector.variant, again.bytes)
			}
			continue
		}
		if !bytes.Equal(again.bytes, vector.bytes) {
			lines = append(lines, again.line())
		}
	}
	if *update {
		comment := "the same messages written by the types of etcd 3.6.14, where the bytes differ"
		if err := writeLines(vectorsFile, comment, lines); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := readLines(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kept, lines) {
		t.Fatalf("%s is out of date; run with -update", vectorsFile)
	}
}

// TestOwnVectors decodes what etcore's types wrote.
func TestOwnVectors(t *testing.T) {
	vectors, err := readVectors(ownFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, vector := range vectors {
		message, ok := newGenerated(vector.name)
		if !ok {
			continue
		}
		if again := rewrite(t, vector, message); again.bare != vector.bare {
			t.Errorf("%s %s:\n3.6 %s\nwe  %s", vector.name, vector.variant, again.bare, vector.bare)
		}
	}
}

// newGenerated finds the Go type of a message; grpc.health.v1 is not made by gogoproto, and some
// messages are newer than 3.6.
func newGenerated(name string) (generated, bool) {
	kind := golang.MessageType(name)
	if kind == nil {
		return nil, false
	}
	message, ok := reflect.New(kind.Elem()).Interface().(generated)
	return message, ok
}

func rewrite(t *testing.T, vector vector, message generated) vector {
	t.Helper()
	if err := message.Unmarshal(vector.bytes); err != nil {
		t.Fatalf("%s %s: %v", vector.name, vector.variant, err)
	}
	written, err := message.Marshal()
	if err != nil {
		t.Fatalf("%s %s: %v", vector.name, vector.variant, err)
	}
	fields := reflect.ValueOf(message).Elem()
	isProto2 := isProto2Struct(fields)
	vector.bytes = written
	vector.dump = structDump(fields, isProto2, false)
	vector.bare = structDump(fields, isProto2, true)
	return vector
}
