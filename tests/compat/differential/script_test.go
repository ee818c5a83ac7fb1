package differential

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// scripts are recorded by hand: each visits the corners of one subject.
var scripts = map[string]func() []Call{
	"fresh store":       freshStore,
	"refused requests":  refusedRequests,
	"transport":         transportErrors,
	"versions":          versionsAndGenerations,
	"ranges":            rangesAndSorting,
	"transactions":      transactions,
	"nested":            nestedTransactions,
	"compaction":        compactions,
	"hashes":            compactedHashes,
	"leases of clients": leasesNamedByClient,
	"leases of servers": leasesNamedByServer,
	"alarms":            alarms,
	"watch ids":         watchIDs,
	"watches refused":   watchesRefused,
	"watches in time":   watchesInTime,
	"large events":      largeEvents,
	"locks":             locks,
	"locks as JSON":     func() []Call { return asJSON(locks()) },
	"elections":         elections,
	"elections as JSON": func() []Call { return asJSON(elections()) },
}

func TestScripts(t *testing.T) {
	var reached sync.Map
	t.Run("all", func(t *testing.T) {
		for name, script := range scripts {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for _, step := range requireSame(t, pairSetup(t), script()) {
					for _, outcome := range append(step.Answers, step.Reference) {
						reached.Store(plainBlanks(outcome.Status.Message()), true)
					}
				}
			})
		}
	})
	// The scripts are worth something only while they reach the errors they are for.
	for _, text := range expectedErrors {
		if !reachedText(&reached, text) {
			t.Errorf("no script reaches %q", text)
		}
	}
}

func reachedText(reached *sync.Map, text string) bool {
	found := false
	reached.Range(func(message, _ any) bool {
		found = found || strings.HasPrefix(message.(string), text)
		return !found
	})
	return found
}

var expectedErrors = []string{
	"etcdserver: key is not provided",
	"etcdserver: key not found",
	"etcdserver: value is provided",
	"etcdserver: lease is provided",
	"etcdserver: too many operations in txn request",
	"etcdserver: duplicate key given in txn request",
	"etcdserver: invalid sort option",
	"etcdserver: mvcc: required revision has been compacted",
	"etcdserver: mvcc: required revision is a future revision",
	"etcdserver: mvcc: database space exceeded",
	"etcdserver: requested lease not found",
	"etcdserver: lease already exists",
	"etcdserver: too large lease TTL",
	"etcdserver: request is too large",
	"etcdserver: corrupt cluster",
	"grpc: received message larger than max",
	"grpc: error unmarshalling request",
	"unknown method",
	"unknown service",
	"mutex: session is expired",
	"election: no leader",
	"election: not leader",
	`"leader" field must be provided`,
}

func freshStore() []Call {
	return []Call{
		storeHash(), snapshotContent(), get("a"), everything(0), everything(1), everything(2), hashKV(0), hashKV(1), hashKV(2),
		memberStatus(), memberList(true), memberList(false), del("a"), compact(0), compact(1), compact(1), compact(2),
		txn(nil, nil, nil), put("a", ""), get("a"), hashKV(0), hashKV(1), hashKV(2), memberStatus(),
		storeHash(), snapshotContent(),
	}
}

func refusedRequests() []Call {
	missing := &pb.RequestOp{}
	return []Call{
		get(""), put("", "v"), del(""), putWith(&pb.PutRequest{}),
		getWith(&pb.RangeRequest{RangeEnd: []byte("z")}),
		getWith(&pb.RangeRequest{Key: []byte("a"), SortOrder: 3}),
		getWith(&pb.RangeRequest{Key: []byte("a"), SortTarget: 5}),
		getWith(&pb.RangeRequest{Key: []byte("a"), SortOrder: -1, Revision: 99}),
		getWith(&pb.RangeRequest{SortOrder: 3}),
		getWith(&pb.RangeRequest{Key: []byte("a"), Revision: 2}),
		putWith(&pb.PutRequest{Key: []byte("a"), Value: []byte("v"), IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), Lease: 5, IgnoreLease: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), Value: []byte("v"), Lease: 5, IgnoreLease: true, IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), IgnoreLease: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), Lease: 5}),
		putWith(&pb.PutRequest{Key: []byte("a"), Lease: 5, IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), Lease: -5, PrevKv: true}),
		txn(compares(createdAt("", 0)), nil, nil),
		txn(compares(over(createdAt("", 0), "z")), nil, nil),
		txn(nil, []*pb.RequestOp{missing}, nil), txn(nil, nil, []*pb.RequestOp{missing}),
		txn(nil, ops(put("a", "1"), put("a", "2")), nil),
		txn(nil, nil, ops(put("a", "1"), put("a", "2"))),
		txn(nil, ops(put("a", "1"), delRange("a", "b")), nil),
		txn(nil, ops(delRange("a", "b"), put("a", "1")), nil),
		txn(nil, ops(del("a"), delRange("a", "b"), del("a")), nil),
		// An open end does not count as overlapping, in either order.
		put("o", "1"), txn(nil, ops(delRange("n", "\x00"), put("o", "2")), nil), get("o"),
		txn(nil, ops(put("o", "3"), delRange("\x00", "\x00")), nil), get("o"),
		txn(nil, ops(delRange("z", "a"), put("o", "3"), delRange("o", "o")), nil), get("o"),
		txn(nil, ops(get("")), nil), txn(nil, nil, ops(put("", ""))), txn(nil, ops(del("")), nil),
		txn(nil, ops(getWith(&pb.RangeRequest{Key: []byte("a"), SortOrder: 7})), nil),
		txn(nil, ops(put("b", "1"), getWith(&pb.RangeRequest{Key: []byte("a"), Revision: 100})), nil),
		txn(nil, ops(put("b", "1"), attach("c", 9)), nil),
		txn(nil, ops(put("b", "1"), putWith(&pb.PutRequest{Key: []byte("c"), IgnoreValue: true})), nil),
		txn(nil, ops(put("b", "1"), putWith(&pb.PutRequest{Key: []byte("b2"), Value: []byte("x"), IgnoreValue: true})), nil),
		tooManyOps(maxTxnOps), tooManyOps(maxTxnOps + 1), tooManyCompares(maxTxnOps + 1), tooManyNestedOps(),
		everything(0), hashKV(0), hashKV(100), compact(100), compact(-1),
		grant(1, 9_000_000_001), grant(1, 9_000_000_000), grant(1, 100), revoke(2), revoke(0), timeToLive(2), timeToLive(0),
	}
}

func tooManyOps(count int) Call {
	var list []Call
	for i := range count {
		list = append(list, put(fmt.Sprintf("many%03d", i), "v"))
	}
	return txn(nil, ops(list...), nil)
}

func tooManyCompares(count int) Call {
	return txn(slices.Repeat(compares(createdAt("a", 0)), count), nil, nil)
}

// tooManyNestedOps has a nested transaction that gets what the outer one left.
func tooManyNestedOps() Call {
	inner := tooManyOps(maxTxnOps)
	return txn(nil, ops(put("z", "1"), inner), nil)
}

func transportErrors() []Call {
	const megabyte = 1 << 20
	large := func(length int) Call { return put("large", strings.Repeat("x", length)) }
	return []Call{
		large(megabyte), large(3 * megabyte / 2), large(3*megabyte/2 - 100), large(2 * megabyte), large(3 * megabyte),
		{Method: "/etcdserverpb.KV/Foo", Raw: []byte{}},
		{Method: "/etcdserverpb.KV/", Raw: []byte{}},
		{Method: "/etcdserverpb.None/Range", Raw: []byte{}},
		{Method: "/none", Raw: []byte{}},
		{Method: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Raw: []byte{}},
		{Method: methodRange, Raw: []byte{0x0a}},
		{Method: methodRange, Raw: []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{Method: methodPut, Raw: []byte{0x07}},
		{Method: methodPut, Raw: []byte("\x0a\x01k\x12\x01v\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
		{Method: methodTxn, Raw: []byte("\x12\x06\x12\x7f\x0a\x01k\x12\x00")},
		// An unknown field.
		{Method: methodPut, Raw: []byte("\x0a\x01k\x12\x01v\xa2\x06\x01x")},
		// A field given twice: the last one counts.
		{Method: methodPut, Raw: []byte("\x0a\x01k\x0a\x01l\x12\x01v")},
		{Method: methodRange, Raw: []byte("\x0a\x01l")},
		everything(0),
	}
}

func versionsAndGenerations() []Call {
	return []Call{
		put("a", "1"), put("a", "2"), get("a"), del("a"), get("a"), put("a", "3"), get("a"),
		everything(1), everything(2), everything(3), everything(4), everything(5), everything(6), everything(-7),
		putWith(&pb.PutRequest{Key: []byte("a"), Value: []byte("4"), PrevKv: true}),
		putWith(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true, PrevKv: true}),
		putWith(&pb.PutRequest{Key: []byte("n"), PrevKv: true}), get("n"),
		delRange("a", "a"), delRange("b", "a"), delRange("x", "\x00"), delRange("\x00", "\x00"), delRange("\x00", "\x00"),
		everything(0), everything(Now(-1)), hashKV(0), hashKV(Now(-3)),
	}
}

func rangesAndSorting() []Call {
	var calls []Call
	for i := range 40 {
		calls = append(calls, put(fmt.Sprintf("r%02d", (i*7)%20), fmt.Sprintf("v%d", (i*3)%11)))
	}
	key, end := []byte("r"), []byte("s")
	for target := range pb.RangeRequest_SortTarget(5) {
		for order := range pb.RangeRequest_SortOrder(3) {
			for _, limit := range []int64{0, 1, 5, 19, 20, 21, -1} {
				calls = append(calls, getWith(&pb.RangeRequest{
					Key: key, RangeEnd: end, SortOrder: order, SortTarget: target, Limit: limit,
				}))
			}
			calls = append(calls, getWith(&pb.RangeRequest{
				Key: key, RangeEnd: end, SortOrder: order, SortTarget: target, KeysOnly: true, Limit: 3,
			}))
		}
	}
	for _, request := range []*pb.RangeRequest{
		{MinModRevision: 20}, {MaxModRevision: 30}, {MinCreateRevision: 10}, {MaxCreateRevision: 15},
		{MinModRevision: 25, MaxModRevision: 35, Limit: 3}, {MinModRevision: 25, CountOnly: true},
		{MinModRevision: 1000}, {MaxModRevision: -1}, {Limit: 3, CountOnly: true}, {Limit: 3, Revision: 15},
		{Limit: 3, Revision: 15, KeysOnly: true}, {KeysOnly: true, CountOnly: true}, {Serializable: true, Limit: 2},
		{KeysOnly: true, MaxCreateRevision: 9, Limit: 2},
	} {
		request.Key, request.RangeEnd = key, end
		calls = append(calls, getWith(request))
	}
	for _, bounds := range [][2]string{
		{"r05", "r05\x00"}, {"r05", "r05"}, {"r09", "r05"}, {"r05", "\x00"}, {"\x00", "r05"}, {"\x00", "\x00"},
		{"r0", "r1"}, {"r19", "r2"}, {"r", ""}, {"\xff", "\x00"}, {"r05", "\x00\x00"},
	} {
		calls = append(calls, getWith(&pb.RangeRequest{Key: []byte(bounds[0]), RangeEnd: []byte(bounds[1])}))
	}
	return calls
}

func transactions() []Call {
	calls := []Call{put("a", "1"), put("a", "2"), put("b", "5"), grant(7, 5000), attach("c", 7)}
	unions := map[pb.Compare_CompareTarget]*pb.Compare{
		pb.Compare_VERSION: {TargetUnion: &pb.Compare_Version{Version: 2}},
		pb.Compare_CREATE:  {TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 2}},
		pb.Compare_MOD:     {TargetUnion: &pb.Compare_ModRevision{ModRevision: 3}},
		pb.Compare_VALUE:   {TargetUnion: &pb.Compare_Value{Value: []byte("2")}},
		pb.Compare_LEASE:   {TargetUnion: &pb.Compare_Lease{Lease: 7}},
	}
	for target := range pb.Compare_CompareTarget(6) {
		for result := range pb.Compare_CompareResult(5) {
			for _, interval := range [][2]string{{"a", ""}, {"c", ""}, {"none", ""}, {"a", "c"}, {"a", "\x00"}, {"x", "y"}} {
				compare := &pb.Compare{
					Target: target, Result: result, Key: []byte(interval[0]), RangeEnd: []byte(interval[1]),
				}
				mismatched := &pb.Compare{
					Target: target, Result: result, Key: compare.Key, RangeEnd: compare.RangeEnd,
					TargetUnion: unions[pb.Compare_VERSION].TargetUnion,
				}
				if union := unions[target]; union != nil {
					compare.TargetUnion = union.TargetUnion
				}
				calls = append(calls, txn(compares(compare), nil, nil), txn(compares(mismatched), nil, nil))
			}
		}
	}
	return append(calls,
		// Reads see earlier writes of the transaction, compares do not.
		txn(compares(valueIs("a", "2")), ops(get("a"), put("a", "3"), get("a"), del("a"), get("a"), put("d", "x")), nil),
		txn(compares(valueIs("a", "2")), nil, ops(get("a"), delRange("\x00", "\x00"), everything(0), everything(5))),
		txn(compares(valueIs("a", "2"), valueIs("b", "5")), ops(get("a")), ops(del("nothing"))),
		txn(nil, ops(del("nothing"), get("b")), nil), txn(nil, ops(put("p", "1"), put("q", "2"), put("r", "3")), nil),
		everything(0), hashKV(0),
	)
}

// nestingMax is how deep a transaction may nest with us. The reference stops at
// the limit of operations only, 126 by default.
const nestingMax = 48

func nestedTransactions() []Call {
	inner := txn(compares(valueIs("a", "1")), ops(put("b", "in")), ops(put("b", "out"), get("a")))
	deep := txn(nil, ops(txn(nil, ops(txn(nil, ops(put("deep", "1"), get("deep")), nil)), nil)), nil)
	deepest := txn(nil, ops(put("deepest", "1"), get("deepest")), nil)
	for range nestingMax {
		deepest = txn(nil, ops(deepest), nil)
	}
	return []Call{
		put("a", "1"), deepest,
		// The branch of the nested one is chosen before the outer put happens.
		txn(nil, ops(put("a", "2"), inner, get("b")), nil), get("a"), get("b"),
		txn(nil, ops(put("a", "1"), inner, get("b")), nil), get("b"), deep, get("deep"),
		txn(nil, ops(put("a", "x"), txn(nil, ops(put("a", "y")), nil)), nil),
		// Both branches of a nested one may put the same key.
		txn(nil, ops(txn(compares(valueIs("a", "1")), ops(put("c", "1")), ops(put("c", "2")))), nil),
		txn(nil, ops(txn(nil, ops(put("c", "1")), nil), txn(nil, nil, ops(put("c", "2")))), nil),
		txn(nil, ops(delRange("c", "d"), txn(nil, nil, ops(put("c", "2")))), nil),
		txn(nil, ops(txn(nil, ops(del("c")), nil), delRange("a", "z")), nil),
		txn(nil, ops(txn(nil, ops(get("c")), nil)), nil), txn(nil, ops(txn(nil, nil, nil)), nil),
		txn(nil, nil, ops(txn(compares(createdAt("", 1)), nil, nil))),
		txn(nil, ops(txn(nil, ops(getWith(&pb.RangeRequest{Key: []byte("a"), Revision: 1000})), nil)), nil),
		txn(nil, ops(txn(nil, nil, ops(getWith(&pb.RangeRequest{Key: []byte("a"), Revision: 1000})))), nil),
		everything(0), hashKV(0),
	}
}

func compactions() []Call {
	calls := []Call{}
	for i := range 30 {
		calls = append(calls, put(fmt.Sprintf("k%d", i%5), fmt.Sprint(i)))
		if i%7 == 6 {
			calls = append(calls, del(fmt.Sprintf("k%d", i%3)))
		}
	}
	calls = append(calls, everything(0), hashKV(0))
	for _, revision := range []int64{1, 9, 9, 5, 10, 20, 21, 33} {
		calls = append(calls, compact(revision), everything(0), hashKV(0), hashKV(Now(-1)),
			everything(revision-1), everything(revision), everything(revision+1), hashKV(revision+1))
	}
	tombstone := []Call{put("t", "1"), del("t"), compact(Now(0)), everything(Now(0)), hashKV(0), hashKV(Now(0)),
		put("t", "2"), everything(Now(-1)), hashKV(Now(0)), compact(Now(-1)), compact(Now(0)), get("t"), hashKV(0),
		txn(nil, ops(everything(1)), nil), txn(nil, ops(put("w", "1"), everything(1)), nil),
		txn(nil, ops(del("t"), put("u", "1")), nil), compact(Now(0)), everything(0), hashKV(0), compact(Now(1))}
	return append(calls, tombstone...)
}

// compactedHashes looks at the hashes that are remembered from compactions.
func compactedHashes() []Call {
	var calls []Call
	for i := range 48 {
		calls = append(calls, put(fmt.Sprintf("h%d", i%6), fmt.Sprint(i)))
		if i%4 == 3 {
			calls = append(calls, compact(Now(-2)), hashKV(Now(-2)), hashKV(Now(-1)), hashKV(0))
		}
	}
	for revision := range int64(50) {
		calls = append(calls, hashKV(revision))
	}
	return calls
}

func leasesNamedByClient() []Call {
	return []Call{
		grant(1, 5000), grant(1, 6000), grant(-3, 7000), grant(2, 0), grant(3, -10), grant(4, 1), revoke(2), revoke(3), revoke(4),
		timeToLive(1), attach("b", 1), attach("a", 1), attach("c", 1), timeToLive(1), attach("a", -3), timeToLive(1),
		timeToLive(-3), put("b", "detached"), timeToLive(1),
		putWith(&pb.PutRequest{Key: []byte("c"), Value: []byte("kept"), IgnoreLease: true}), get("c"), timeToLive(1),
		putWith(&pb.PutRequest{Key: []byte("c"), Lease: -3, IgnoreValue: true}), get("c"), timeToLive(1), timeToLive(-3),
		del("a"), timeToLive(-3), attach("d", -3), attach("e", -3), attach("x", -3), hashKV(0),
		// A put with a lease it has already, and both in one transaction.
		attach("d", -3), txn(nil, ops(attach("f", 1), del("d"), attach("g", -3)), nil), timeToLive(-3), timeToLive(1),
		revoke(-3), everything(0), everything(Now(-1)), hashKV(0), revoke(-3), timeToLive(-3), attach("a", -3),
		grant(-3, 5000), timeToLive(-3), revoke(-3), revoke(1), everything(0), hashKV(0), compact(Now(0)), hashKV(0),
		grant(1<<62, 100), grant(-1<<63, 100), timeToLive(1 << 62), timeToLive(-1 << 63), attach("k", -1<<63), get("k"),
	}
}

func leasesNamedByServer() []Call {
	return []Call{
		grantNamed(Lease(1), 5000), grantNamed(Lease(2), 6000), timeToLive(Lease(1)), attach("a", Lease(1)),
		attach("b", Lease(1)), attach("c", Lease(2)), everything(0), timeToLive(Lease(1)), grant(Lease(1), 100),
		revoke(Lease(1)), everything(0), everything(Now(-1)), revoke(Lease(1)), attach("a", Lease(1)), revoke(Lease(2)), everything(0),
	}
}

func alarms() []Call {
	show, activate, deactivate := pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
	writes := []Call{
		put("a", "1"), grant(5, 5000), txn(nil, ops(put("b", "1")), nil), txn(nil, nil, ops(put("b", "1"))),
		txn(nil, ops(get("a")), nil), txn(nil, ops(del("a")), nil), del("a"), compact(Now(0)), get("a"), hashKV(0),
		revoke(5), memberStatus(), alarm(show, pb.AlarmType_NONE), alarm(show, pb.AlarmType_NOSPACE), alarm(show, pb.AlarmType_CORRUPT),
		txn(nil, ops(txn(nil, nil, ops(put("n", "1")))), nil),
	}
	calls := []Call{alarm(show, 0), alarm(activate, 0), alarm(deactivate, 0), put("a", "0")}
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		calls = append(calls, onThisMember(alarm(activate, kind)), onThisMember(alarm(activate, kind)))
		calls = append(calls, writes...)
		calls = append(calls, alarm(deactivate, kind), onThisMember(alarm(deactivate, kind)), onThisMember(alarm(deactivate, kind)))
		calls = append(calls, writes...)
	}
	return calls
}

// onThisMember names the only member there is, in a request about alarms.
func onThisMember(call Call) Call {
	call.Request.(*pb.AlarmRequest).MemberID = memberID
	return call
}
