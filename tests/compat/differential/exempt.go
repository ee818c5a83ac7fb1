package differential

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Of watch streams every response that creates or ends a watcher is compared like
// that of a call, and each watcher's events one by one. Not compared is (twin.go and
// watching.go check instead what is promised):
//   - how events of several revisions are cut into responses: it depends on how
//     many wait. All of a revision come in one, or in fragments.
//   - the revision in the header of a response with events: the store's when
//     it was sent. It is not below that of the events.
//   - how events of one revision are cut into fragments: by the size of what else
//     waits.
//   - when progress is told, and how often. What came before it is what it says.
//   - what is left of a watcher that the server has ended because it was compacted: with
//     etcd its id is taken until the client cancels it, too (the Go client does, and
//     so do we here), and until then its stream is never told any progress.
//   - RangeStream with a sort target and no order, which the workload leaves out
//     (generate_watch.go).
//
// Of locks and elections every answer is compared, those after a wait too, and all that one who
// observes is told, headers included. sessions.go makes each call only when nobody has anything to
// do any more by himself, as otherwise both servers may be right and differ. Not compared is:
//   - how long a lease lives still that Lock, Campaign or others of theirs have named
//     (exemptTimes): etcd's session asks to keep it alive and takes that back at once.
//   - what becomes of a wait whose watch inside of etcd is overtaken by a compaction before it has
//     come to the newest revision, up to 100 ms after it began: etcd's call fails then.
//     The workload compacts no further than that (clamp).
//   - a second call of Lock, or of Campaign with the same value, by one who waits already: nobody
//     can see when it has begun (isSeenAt).
//
// Of snapshots, what is in their buckets is compared (streams.go): pages lie where
// a server put them.

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
	// By remaining time, which of two servers is known to a fraction of a second
	// only. A script with distant times compares the order.
	"etcdserverpb.LeaseLeasesResponse.leases": true,
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
				sortList(value.List())
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

// sortList sorts byte strings, or messages by their only number.
func sortList(list protoreflect.List) {
	var values []protoreflect.Value
	for i := range list.Len() {
		values = append(values, list.Get(i))
	}
	slices.SortFunc(values, func(a, b protoreflect.Value) int {
		if _, ok := a.Interface().([]byte); ok {
			return bytes.Compare(a.Bytes(), b.Bytes())
		}
		number := a.Message().Descriptor().Fields().Get(0)
		return cmp.Compare(a.Message().Get(number).Int(), b.Message().Get(number).Int())
	})
	for i, value := range values {
		list.Set(i, value)
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
