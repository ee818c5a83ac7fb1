package differential

import (
	"bytes"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// exemptFields are the fields in which the responses of two servers may differ.
// They are compared only for being zero. Lease ids that a server generates are
// replaced by symbols before (symbol.go), remaining times to live may be one
// second apart (alignTimes). All else must be equal, the ids of cluster and
// members included: both servers are started with the same names and URLs.
var exemptFields = map[protoreflect.FullName]bool{
	"etcdserverpb.ResponseHeader.raft_term":        true,
	"etcdserverpb.StatusResponse.raftTerm":         true,
	"etcdserverpb.StatusResponse.raftIndex":        true,
	"etcdserverpb.StatusResponse.raftAppliedIndex": true,
	"etcdserverpb.StatusResponse.dbSize":           true,
	"etcdserverpb.StatusResponse.dbSizeInUse":      true,
}

// unorderedFields are lists that the API leaves unordered.
var unorderedFields = map[protoreflect.FullName]bool{
	"etcdserverpb.LeaseTimeToLiveResponse.keys": true,
}

// Mask blanks the exempt fields of a response, in place.
func Mask(response proto.Message) {
	if status, ok := response.(*pb.StatusResponse); ok {
		for i, text := range status.Errors {
			status.Errors[i] = plainBlanks(text)
		}
	}
	eachMessage(response.ProtoReflect(), func(message protoreflect.Message) {
		message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			switch {
			case exemptFields[field.FullName()]:
				message.Set(field, one(field))
			case unorderedFields[field.FullName()]:
				sortBytes(value.List())
			}
			return true
		})
	})
}

func one(field protoreflect.FieldDescriptor) protoreflect.Value {
	if field.Kind() == protoreflect.Int64Kind {
		return protoreflect.ValueOfInt64(1)
	}
	return protoreflect.ValueOfUint64(1)
}

func sortBytes(list protoreflect.List) {
	var values [][]byte
	for i := range list.Len() {
		values = append(values, list.Get(i).Bytes())
	}
	slices.SortFunc(values, bytes.Compare)
	for i, value := range values {
		list.Set(i, protoreflect.ValueOfBytes(value))
	}
}

// alignTimes makes remaining times equal that are a second apart: the two
// servers granted the lease at two moments and are asked at two moments.
func alignTimes(left, right proto.Message) {
	l, isLeft := left.(*pb.LeaseTimeToLiveResponse)
	r, isRight := right.(*pb.LeaseTimeToLiveResponse)
	if !isLeft || !isRight || l.TTL < 0 || r.TTL < 0 {
		return
	}
	if distance := l.TTL - r.TTL; -1 <= distance && distance <= 1 {
		l.TTL = r.TTL
	}
}

// plainBlanks undoes the random choices of Go's protobuf: between blanks and
// no-break spaces in its error texts, and between one and two blanks where it
// prints a message (as Status does with alarms).
func plainBlanks(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\u00a0", " "), "  ", " ")
}
