package differential

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	watchersWanted = 200
	// pastCount is how many puts come first, so that there is a past to watch.
	pastCount = 2 * lateRevisions
	// presentStreams have watchers from the past and from now on; the others have those
	// from now on and from the future, during which etcd tells no progress.
	presentStreams = 6
	chosenIDFirst  = 1000
	chosenIDCount  = 400
	futureReach    = 60
	jsonOneIn      = 10
)

// watchedGenerator makes a workload of all services, with watchers.
type watchedGenerator struct {
	*Generator
	open int // watchers at least: those from the past may turn out to be compacted
}

func newWatchedGenerator(seed uint64, leases leaseChoice) *watchedGenerator {
	return &watchedGenerator{Generator: newGenerator(seed, leases)}
}

// Calls makes a workload that begins with a crowd of watchers.
func (g *watchedGenerator) Calls(count int) []Call {
	var calls []Call
	for len(calls) < pastCount {
		calls = append(calls, Call{Method: methodPut, Request: g.put()})
	}
	for g.open < watchersWanted {
		calls = append(calls, g.create())
	}
	for len(calls) < count {
		calls = append(calls, g.call())
	}
	return calls
}

func (g *watchedGenerator) call() Call {
	switch n := g.random.IntN(1000); {
	case n < 40:
		return g.watch()
	case n < 60:
		return g.maybeJSON(Call{Method: methodKeepAlive, Request: &pb.LeaseKeepAliveRequest{ID: g.lease()}})
	case n < 70:
		return g.maybeJSON(Call{Method: methodLeases, Request: &pb.LeaseLeasesRequest{}})
	case n < 90:
		return Call{Method: methodRangeStream, Request: streamable(g.readRange())}
	case n < 95:
		return g.rareMaintenance()
	case n < 175:
		return g.session()
	}
	return g.maybeJSON(g.Generator.call())
}

func (g *watchedGenerator) maybeJSON(call Call) Call {
	call.AsJSON = g.one(jsonOneIn) && gatewayPaths[call.Method] != ""
	return call
}

// streamable takes out what the reference does not stream right: with a target and no
// order it sorts each message, and goes on behind the key that then comes last.
// It so skips pairs or repeats them; we stream by key.
func streamable(request *pb.RangeRequest) *pb.RangeRequest {
	if request.SortOrder == pb.RangeRequest_NONE {
		request.SortTarget = pb.RangeRequest_KEY
	}
	return request
}

// rareMaintenance is what costs a server more than a moment.
func (g *watchedGenerator) rareMaintenance() Call {
	choices := []Call{
		{Method: methodDefragment, Request: &pb.DefragmentRequest{}},
		{Method: methodMoveLeader, Request: &pb.MoveLeaderRequest{TargetID: pick[uint64](g.Generator, memberID, 5)}},
	}
	// These see how far a compaction is, and the ids of leases.
	if g.leases == leasesOfClient && !g.unsettled {
		choices = append(choices,
			Call{Method: methodHash, Request: &pb.HashRequest{}},
			Call{Method: methodSnapshot, Request: &pb.SnapshotRequest{}})
	}
	return g.maybeJSON(choices[g.random.IntN(len(choices))])
}

func (g *watchedGenerator) watch() Call {
	switch n := g.random.IntN(100); {
	case n < 10:
		return watchCall(g.stream(), progressRequest())
	case n < 12:
		return watchCall(g.stream(), &pb.WatchRequest{})
	case g.open > watchersWanted && g.one(2):
		g.open--
		return g.cancel(Watcher(g.random.IntN(watchersWanted)))
	case n < 15:
		return g.cancel(pick[int64](g.Generator, -1, 0, 5, 999_999))
	default:
		return g.create()
	}
}

func (g *watchedGenerator) stream() int { return g.random.IntN(watchStreams) }

func watchCall(stream int, request *pb.WatchRequest) Call {
	return Call{Method: methodWatch, Stream: stream, Request: request}
}

func (g *watchedGenerator) cancel(id int64) Call {
	return watchCall(g.stream(), &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}})
}

func (g *watchedGenerator) create() Call {
	stream := g.stream()
	request := &pb.WatchCreateRequest{
		Key: g.key(), PrevKv: g.one(2), Fragment: g.one(3), ProgressNotify: g.one(4), StartRevision: g.start(stream),
	}
	request.RangeEnd = g.rangeEnd(request.Key)
	for _, filter := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
		if g.one(6) {
			request.Filters = append(request.Filters, filter)
		}
	}
	taken := false
	switch {
	case g.one(4):
		request.WatchId = int64(chosenIDFirst + g.random.IntN(chosenIDCount))
	case g.one(25):
		request.WatchId, taken = Watcher(g.random.IntN(watchersWanted)), true
	}
	empty := len(request.RangeEnd) > 0 && !bytes.Equal(request.RangeEnd, []byte{0}) && bytes.Compare(request.RangeEnd, request.Key) <= 0
	if !taken && !empty && (request.StartRevision == 0 || request.StartRevision > Now(0)) {
		g.open++
	}
	return watchCall(stream, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
}

func (g *watchedGenerator) start(stream int) int64 {
	switch n := g.random.IntN(100); {
	case n < 3:
		return -int64(g.random.IntN(3))
	case stream >= presentStreams && n < 50:
		return Now(1 + int64(g.random.IntN(futureReach)))
	case stream >= presentStreams || n < 60:
		return 0
	case n < 65:
		return 1 + int64(g.random.IntN(5))
	default:
		return Now(-int64(g.random.IntN(2 * lateRevisions)))
	}
}
