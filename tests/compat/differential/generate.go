package differential

import (
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Generator makes a random workload from a seed. It knows nothing about the
// answers: what depends on them is a symbol (symbol.go).
type Generator struct {
	random *rand.Rand
	leases leaseChoice
	// unsettled: a logical compaction may still be running in the background.
	// Until a physical one has waited for it, hashes of old revisions depend
	// on time.
	unsettled bool
}

// leaseChoice says who names leases. Hashes cover the lease ids of keys, so a
// workload has hashes or leases named by the server.
type leaseChoice int

const (
	leasesOfClient leaseChoice = iota
	leasesOfServer
)

const (
	lateRevisions  = 40 // how far back most reads of old revisions reach
	leaseCount     = 12
	leaseTTLFirst  = 100_000 // long: no lease may expire during a run
	leaseTTLLimit  = 200_000
	maxTxnOps      = 128 // the default of --max-txn-ops
	smallValueLen  = 48
	bigValueLen    = 8 << 10
	unknownEnumNum = 9
	leaseOfZero    = 77 // granted where no id was chosen
	leaseUnknown   = 999_999
)

func newGenerator(seed uint64, leases leaseChoice) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, 0)), leases: leases}
}

// Calls makes a workload.
func (g *Generator) Calls(count int) []Call {
	calls := make([]Call, count)
	for i := range calls {
		calls[i] = g.call()
	}
	return calls
}

func (g *Generator) call() Call {
	switch n := g.random.IntN(1000); {
	case n < 330:
		return Call{Method: methodPut, Request: g.put()}
	case n < 610:
		return Call{Method: methodRange, Request: g.readRange()}
	case n < 690:
		return Call{Method: methodDeleteRange, Request: g.deleteRange()}
	case n < 890:
		return Call{Method: methodTxn, Request: harmless(g.txn(0))}
	case n < 900:
		return g.compact()
	case n < 925:
		return g.grant()
	case n < 940:
		return Call{Method: methodLeaseRevoke, Request: &pb.LeaseRevokeRequest{ID: g.lease()}}
	case n < 960:
		return Call{Method: methodLeaseTTL, Request: &pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.one(2)}}
	case n < 985:
		return g.hash()
	default:
		return g.maintenance()
	}
}

// one is true once in so many times.
func (g *Generator) one(in int) bool { return g.random.IntN(in) == 0 }

func pick[T any](g *Generator, choices ...T) T { return choices[g.random.IntN(len(choices))] }

var keys = [][]byte{
	[]byte("a"), []byte("a/"), []byte("a/b"), []byte("a/b/c"), []byte("a/c"), []byte("a0"), []byte("b"),
	[]byte("k0"), []byte("k1"), []byte("k2"), []byte("k3"), []byte("k4"), []byte("k5"), []byte("k6"),
	[]byte("k7"), []byte("k8"), []byte("k9"), []byte("key"), []byte("key\x00"), []byte("key\x00\x00"),
	{0}, {0, 0}, {1}, {0xff}, {0xff, 0xff}, {0xff, 0xff, 'x'}, {0xfe, 0xff}, []byte("żółw"), []byte("z"),
}

func (g *Generator) key() []byte {
	if g.one(150) {
		return nil
	}
	return keys[g.random.IntN(len(keys))]
}

// rangeEnd makes the end of an interval that starts at key.
func (g *Generator) rangeEnd(key []byte) []byte {
	switch g.random.IntN(10) {
	case 0, 1, 2, 3:
		return nil
	case 4, 5:
		return prefixEnd(key)
	case 6:
		return []byte{0}
	default:
		return g.key() // often not behind the key
	}
}

// prefixEnd is the first key behind all that start with prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

func (g *Generator) value() []byte {
	length := g.random.IntN(smallValueLen)
	switch {
	case g.one(8):
		length = 0
	case g.one(150):
		length = g.random.IntN(bigValueLen)
	}
	value := make([]byte, length)
	for i := range value {
		value[i] = byte(g.random.Uint32())
	}
	return value
}

// lease is an id that may or may not be in use.
func (g *Generator) lease() int64 {
	number := int64(g.random.IntN(leaseCount)) + 1
	switch {
	case g.one(20):
		return 0
	case g.one(20):
		return leaseUnknown
	case g.leases == leasesOfServer && !g.one(4):
		return Lease(number)
	case g.one(6):
		return -number
	}
	return number
}

func (g *Generator) revision() int64 {
	switch {
	case g.one(40):
		return Now(int64(g.random.IntN(3)) + 1)
	case g.one(40):
		return -int64(g.random.IntN(3))
	case g.one(40):
		return int64(g.random.IntN(5))
	}
	return Now(-int64(g.random.IntN(lateRevisions)))
}

func (g *Generator) put() *pb.PutRequest {
	request := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.one(4)}
	if g.one(6) {
		request.Lease = g.lease()
	}
	if g.one(12) {
		request.IgnoreValue = true
		if !g.one(5) {
			request.Value = nil
		}
	}
	if g.one(12) {
		request.IgnoreLease = true
		if !g.one(5) {
			request.Lease = 0
		}
	}
	return request
}

func (g *Generator) readRange() *pb.RangeRequest {
	request := &pb.RangeRequest{Key: g.key(), Serializable: g.one(4), KeysOnly: g.one(5), CountOnly: g.one(10)}
	request.RangeEnd = g.rangeEnd(request.Key)
	if g.one(3) {
		request.Revision = g.revision()
	}
	if g.one(3) {
		request.Limit = pick[int64](g, -1, 1, 2, 3, 5, 10, 100)
	}
	if g.one(3) {
		request.SortOrder = pick(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND)
		request.SortTarget = pick(g, pb.RangeRequest_KEY, pb.RangeRequest_VERSION, pb.RangeRequest_CREATE,
			pb.RangeRequest_MOD, pb.RangeRequest_VALUE)
	}
	if g.one(200) {
		request.SortOrder = unknownEnumNum
	}
	if g.one(200) {
		request.SortTarget = unknownEnumNum
	}
	for _, bound := range []*int64{
		&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision,
	} {
		if g.one(15) {
			*bound = g.revision()
		}
	}
	return request
}

func (g *Generator) deleteRange() *pb.DeleteRangeRequest {
	request := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.one(3)}
	// Wide deletes are rare, else nothing would live long.
	if g.one(6) {
		request.RangeEnd = g.rangeEnd(request.Key)
	}
	return request
}

func (g *Generator) grant() Call {
	request := &pb.LeaseGrantRequest{
		TTL: int64(leaseTTLFirst + g.random.IntN(leaseTTLLimit-leaseTTLFirst)),
	}
	switch {
	case g.one(30):
		request.TTL = pick[int64](g, 9_000_000_000, 9_000_000_001, 1<<62)
		request.ID = g.lease()
	case g.leases == leasesOfServer && !g.one(4):
		return Call{
			Method: methodLeaseGrant, Request: request,
			Names: Lease(int64(g.random.IntN(leaseCount)) + 1),
		}
	default:
		request.ID = g.lease()
	}
	if request.ID == 0 {
		request.ID = leaseOfZero
	}
	return Call{Method: methodLeaseGrant, Request: request}
}

func (g *Generator) compact() Call {
	request := &pb.CompactionRequest{Revision: Now(-int64(g.random.IntN(2 * lateRevisions))), Physical: !g.one(4)}
	if g.one(5) {
		request.Revision = g.revision()
	}
	g.unsettled = !request.Physical
	return Call{Method: methodCompact, Request: request}
}

func (g *Generator) hash() Call {
	request := &pb.HashKVRequest{}
	switch {
	case g.leases == leasesOfServer:
		return g.maintenance()
	case !g.unsettled && g.one(2):
		request.Revision = g.revision()
	case g.one(8):
		request.Revision = Now(1)
	}
	if request.Revision < 0 {
		request.Revision = 0 // what a negative one means is nowhere said
	}
	return Call{Method: methodHashKV, Request: request}
}

func (g *Generator) maintenance() Call {
	choices := []struct {
		method  string
		request proto.Message
	}{
		{methodStatus, &pb.StatusRequest{}},
		{methodMemberList, &pb.MemberListRequest{Linearizable: g.one(2)}},
		{methodAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: pb.AlarmType(g.random.IntN(3))}},
		{methodAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}},
	}
	choice := choices[g.random.IntN(len(choices))]
	return Call{Method: choice.method, Request: choice.request}
}
