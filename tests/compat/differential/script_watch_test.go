package differential

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func watchWith(stream int, request *pb.WatchCreateRequest) Call {
	return watchCall(stream, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
}

func watchFrom(key, end string, start int64) Call {
	return watchWith(0, &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end), StartRevision: start, PrevKv: true})
}

func watchID(id int64) Call {
	return watchWith(0, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: id})
}

func cancelWatch(id int64) Call {
	return watchCall(0, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}})
}

func progress() Call { return watchCall(0, progressRequest()) }

func watchIDs() []Call {
	return []Call{
		// Chosen by the server, around those that the client has chosen.
		watchID(0), watchID(2), watchID(2), watchID(0), watchID(0), watchID(1), watchID(-5), watchID(-5), watchID(-1), watchID(1 << 62),
		put("a", "1"), cancelWatch(2), cancelWatch(2), watchID(0), watchID(2), cancelWatch(99), cancelWatch(-1), watchID(-1), put("a", "2"),
		cancelWatch(-5), cancelWatch(-1), cancelWatch(0), cancelWatch(1), put("a", "3"), watchID(0), watchID(1), progress(), put("a", "4"),
		// Ids are of one stream.
		watchWith(1, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2}), put("a", "5"), progress(),
		watchCall(0, &pb.WatchRequest{}),
	}
}

func watchesRefused() []Call {
	return []Call{
		watchFrom("b", "a", 0), watchFrom("b", "b", 0), watchFrom("", "", 0), watchFrom("", "\x00", 0), watchFrom("b", "\x00", 0),
		watchFrom("\x00", "\x00", 0), watchFrom("b", "a", -1), watchFrom("a", "", -1), watchFrom("a", "", -1<<63), watchFrom("a", "", 1<<63-1),
		watchWith(0, &pb.WatchCreateRequest{Key: []byte("a"), Filters: []pb.WatchCreateRequest_FilterType{7, 0, 0}}),
		put("a", "1"), put("b", "1"), put("\x00", "1"), del("a"), delRange("\x00", "\x00"),
	}
}

func watchesInTime() []Call {
	var calls []Call
	for i := range 20 {
		calls = append(calls, put(fmt.Sprintf("k%d", i%4), fmt.Sprint(i)))
	}
	calls = append(calls, watchFrom("k", "l", 1), watchFrom("k1", "", 5), watchFrom("k", "l", Now(0)), watchFrom("k", "l", Now(1)),
		watchFrom("k", "l", Now(2)), watchFrom("k", "l", Now(7)), put("k0", "x"), del("k1"), del("k2"), compact(Now(0)),
		// At the compacted revision, and around it.
		watchFrom("k", "l", Now(-1)), watchFrom("k", "l", Now(0)), watchFrom("k", "l", 1), watchFrom("k", "l", Now(1)),
		txn(nil, ops(put("k1", "a"), put("k2", "b"), del("k0")), nil), watchFrom("k", "l", Now(0)),
		txn(nil, ops(delRange("k", "\x00"), put("k9", "c")), nil), compact(Now(0)), watchFrom("k", "l", Now(0)),
		put("k9", "d"), compact(Now(0)), watchFrom("k9", "", Now(0)), del("k9"), put("k9", "e"), compact(Now(-1)), watchFrom("k9", "", Now(-1)),
		// By leases.
		grant(5, 1000), attach("k4", 5), attach("k5", 5), attach("k6", 5), revoke(5), put("k4", "f"))
	return calls
}

// largeEvents makes revisions that are larger than a message of a fragmenting watch may be.
func largeEvents() []Call {
	const count = 24
	value := strings.Repeat("x", 128<<10)
	var calls []Call
	for _, prevKv := range []bool{false, true} {
		for _, fragment := range []bool{false, true} {
			calls = append(calls, watchWith(0, &pb.WatchCreateRequest{
				Key: []byte("large"), RangeEnd: []byte("largf"), PrevKv: prevKv, Fragment: fragment,
			}))
		}
	}
	for i := range count {
		calls = append(calls, put(fmt.Sprintf("large%02d", i), value))
	}
	calls = append(calls, delRange("large", "largf"))
	// The same again from the past.
	return append(calls,
		watchWith(1, &pb.WatchCreateRequest{Key: []byte("large"), RangeEnd: []byte("largf"), StartRevision: 2, PrevKv: true, Fragment: true}),
		watchWith(1, &pb.WatchCreateRequest{Key: []byte("large"), RangeEnd: []byte("largf"), StartRevision: 2}),
		put("large", "small"))
}

// The order is by what is left; the random workloads cannot compare it.
func TestLeasesAreListedBySoonestEnd(t *testing.T) {
	t.Parallel()
	pair := startPair(t)
	for id, ttl := range []int64{5000, 3000, 9000, 1000, 7000} {
		requireSteps(t, pair, grant(int64(id+1), ttl))
	}
	list := Call{Method: methodLeases, Request: &pb.LeaseLeasesRequest{}}
	requireSteps(t, pair, revoke(4), Call{Method: methodKeepAlive, Request: &pb.LeaseKeepAliveRequest{ID: 1}})
	reference, subject := pair.reference.do(list, 0), pair.subject.do(list, 0)
	left, right := reference.Response.(*pb.LeaseLeasesResponse).Leases, subject.Response.(*pb.LeaseLeasesResponse).Leases
	for i, id := range []int64{2, 1, 5, 3} {
		if left[i].ID != id || !proto.Equal(left[i], right[i]) {
			t.Fatalf("the reference lists %v, the subject %v", left, right)
		}
	}
}
