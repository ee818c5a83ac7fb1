// Package protovec compares etcore's messages with those of the real etcd.
//
// It walks every message of etcd's own generated packages, fills it with values drawn from a fixed
// seed, and keeps the encoded bytes together with a dump of the fields under proto/tests/golden.
// The Rust tests of the proto crate read these files; the file they write themselves is decoded
// here with etcd's types.
//
// Run with -update to rewrite the golden files after a change of the reference version.
package protovec

import (
	"sort"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// packages are the proto packages that both sides must agree about.
var packages = map[protoreflect.FullName]bool{
	"authpb":         true,
	"etcdserverpb":   true,
	"grpc.health.v1": true,
	"leasepb":        true,
	"membershippb":   true,
	"mvccpb":         true,
	"raftpb":         true,
	"snappb":         true,
	"v3electionpb":   true,
	"v3lockpb":       true,
	"versionpb":      true,
	"walpb":          true,
}

// files returns the linked-in files of the packages above, sorted by path.
func files() []protoreflect.FileDescriptor {
	var found []protoreflect.FileDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if packages[file.Package()] {
			found = append(found, file)
		}
		return true
	})
	sort.Slice(found, func(i, j int) bool { return found[i].Path() < found[j].Path() })
	return found
}

// messages returns every message of those files except map entries, sorted by name.
func messages() []protoreflect.MessageDescriptor {
	var found []protoreflect.MessageDescriptor
	var walk func(list protoreflect.MessageDescriptors)
	walk = func(list protoreflect.MessageDescriptors) {
		for i := range list.Len() {
			if message := list.Get(i); !message.IsMapEntry() {
				found = append(found, message)
				walk(message.Messages())
			}
		}
	}
	for _, file := range files() {
		walk(file.Messages())
	}
	sort.Slice(found, func(i, j int) bool { return found[i].FullName() < found[j].FullName() })
	return found
}
