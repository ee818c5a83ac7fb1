package protovec

import (
	"bytes"
	"flag"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

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
	vectorsFile = "etcd-3.7.1.vectors"
	schemaFile  = "etcd-3.7.1.schema"
	ownFile     = "etcore.vectors"
)

// otherForm are messages that Go and etcore write in different, equally legal ways: Go puts the
// members of a oneof last, which shows in Compare and what holds one, and writes the key and value
// of a map entry even if they are zero.
var otherForm = map[string]bool{
	"etcdserverpb.Compare":              true,
	"etcdserverpb.InternalRaftRequest":  true,
	"etcdserverpb.RequestOp":            true,
	"etcdserverpb.TxnRequest":           true,
	"grpc.health.v1.HealthListResponse": true,
}

// TestSchema keeps the list that the Rust side compares its descriptors with.
func TestSchema(t *testing.T) {
	lines := schema(versionOption)
	if *update {
		if err := writeLines(schemaFile, "what the proto files of etcd 3.7.1 declare", lines); err != nil {
			t.Fatal(err)
		}
	}
	compareLines(t, schemaFile, lines)
}

// TestVectors keeps the bytes that etcd's types write, for the Rust side to read.
func TestVectors(t *testing.T) {
	var lines []string
	for _, descriptor := range messages() {
		for _, made := range vectorsOf(t, descriptor) {
			lines = append(lines, made.line())
		}
	}
	if *update {
		if err := writeLines(vectorsFile, "written by the types of etcd 3.7.1", lines); err != nil {
			t.Fatal(err)
		}
	}
	compareLines(t, vectorsFile, lines)
}

// TestOwnVectors decodes what etcore's types wrote.
func TestOwnVectors(t *testing.T) {
	vectors, err := readVectors(ownFile)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, vector := range vectors {
		seen[vector.name] = true
		message := newMessage(t, protoreflect.FullName(vector.name))
		if err := proto.Unmarshal(vector.bytes, message); err != nil {
			t.Errorf("%s %s: %v", vector.name, vector.variant, err)
			continue
		}
		if got := dump(message.ProtoReflect(), false); got != vector.dump {
			t.Errorf("%s %s:\n got %s\nwant %s", vector.name, vector.variant, got, vector.dump)
		}
		// The wire form of this variant is legal, but no writer's own.
		if vector.variant == "wire-odd" || otherForm[vector.name] {
			continue
		}
		if got := marshal(t, message); !bytes.Equal(got, vector.bytes) {
			t.Errorf("%s %s: %x written again as %x", vector.name, vector.variant, vector.bytes, got)
		}
	}
	for _, descriptor := range messages() {
		if !seen[string(descriptor.FullName())] {
			t.Errorf("%s: no vector", descriptor.FullName())
		}
	}
}

func vectorsOf(t *testing.T, descriptor protoreflect.MessageDescriptor) []vector {
	t.Helper()
	made := []vector{makeVector(t, descriptor, "empty", 0)}
	if descriptor.Fields().Len() == 0 {
		return made
	}
	members := 1
	for i := range descriptor.Oneofs().Len() {
		members = max(members, descriptor.Oneofs().Get(i).Fields().Len())
	}
	for member := range members {
		made = append(made, makeVector(t, descriptor, fmt.Sprint("full", member), member))
	}
	for i, variant := range []string{"zeros", "min", "max", "mix0", "mix1"} {
		made = append(made, makeVector(t, descriptor, variant, i))
	}
	return made
}

func makeVector(t *testing.T, descriptor protoreflect.MessageDescriptor, variant string, oneof int) vector {
	t.Helper()
	message := newMessage(t, descriptor.FullName())
	if variant != "empty" {
		newFiller(descriptor.FullName(), variant, oneof).fill(message.ProtoReflect(), 0)
	}
	return vector{
		name:    string(descriptor.FullName()),
		variant: variant,
		bytes:   marshal(t, message),
		dump:    dump(message.ProtoReflect(), false),
		bare:    dump(message.ProtoReflect(), true),
	}
}

func newMessage(t *testing.T, name protoreflect.FullName) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return kind.New().Interface()
}

func marshal(t *testing.T, message proto.Message) []byte {
	t.Helper()
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		t.Fatalf("%s: %v", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return written
}

func compareLines(t *testing.T, name string, got []string) {
	t.Helper()
	want, err := readLines(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s is out of date from line %d on; run with -update", name, i+2)
		}
	}
}
