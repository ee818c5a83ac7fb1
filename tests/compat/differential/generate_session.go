package differential

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/protobuf/proto"
)

// Few names and few leases, so that most who come find somebody there. Names lie below
// one another, and what is locked by "a" has keys that others write and delete.
var (
	lockNames     = []string{"l", "l", "l", "l/x", "l/x", "a", ""}
	electionNames = []string{"e", "e", "e", "e/f", "e/f", "l", ""}
)

const (
	// sessionLeases is how many of the leases take part.
	sessionLeases    = 5
	sessionJSONOneIn = 4
)

// session makes a call of a lock or an election.
func (g *watchedGenerator) session() Call {
	switch n := g.random.IntN(100); {
	case n < 22:
		return g.oftenJSON(methodLock, &lpb.LockRequest{Name: g.lockName(), Lease: g.sessionLease()})
	case n < 39:
		return g.oftenJSON(methodUnlock, &lpb.UnlockRequest{Key: g.lockKey()})
	case n < 57:
		return g.oftenJSON(methodCampaign, &epb.CampaignRequest{
			Name: g.electionName(), Lease: g.sessionLease(), Value: g.proclamation(),
		})
	case n < 67:
		return g.oftenJSON(methodProclaim, &epb.ProclaimRequest{Leader: g.leaderKey(), Value: g.proclamation()})
	case n < 77:
		return g.oftenJSON(methodResign, &epb.ResignRequest{Leader: g.leaderKey()})
	case n < 80:
		return g.oftenJSON(methodLeader, &epb.LeaderRequest{Name: g.electionName()})
	case n < 84:
		return g.oftenJSON(methodObserve, &epb.LeaderRequest{Name: g.electionName()})
	case n < 89:
		return Call{Method: methodLeave, Stream: g.oldestWaiter()}
	case n < 96:
		return g.oftenJSON(methodLeaseGrant, &pb.LeaseGrantRequest{ID: g.sessionLease(), TTL: leaseTTLFirst})
	default:
		return g.intrusion()
	}
}

func (g *watchedGenerator) oftenJSON(method string, request proto.Message) Call {
	return Call{Method: method, Request: request, AsJSON: g.one(sessionJSONOneIn)}
}

func (g *watchedGenerator) lockName() []byte {
	return []byte(pick(g.Generator, lockNames...))
}

func (g *watchedGenerator) electionName() []byte {
	return []byte(pick(g.Generator, electionNames...))
}

// sessionLease is never one that the server would name: the keys would have other names.
func (g *watchedGenerator) sessionLease() int64 {
	number := int64(g.random.IntN(sessionLeases)) + 1
	switch {
	case g.one(20):
		return leaseUnknown
	case g.one(10):
		return -number
	}
	return number
}

// lockKey is mostly that of a holder, else one that may wait.
func (g *watchedGenerator) lockKey() []byte {
	switch {
	case g.one(12):
		return g.key()
	case !g.one(3):
		return append(g.lockName(), "/"+holderSymbol...)
	}
	return []byte(sessionKey(g.lockName(), g.sessionLease()))
}

func (g *watchedGenerator) proclamation() []byte {
	if g.one(3) {
		return g.value()
	}
	return []byte(pick(g.Generator, "", "one", "two"))
}

// leaderKey is mostly what a leader shows, else somebody who waits, or has no right to it.
func (g *watchedGenerator) leaderKey() *epb.LeaderKey {
	name, lease := g.electionName(), g.sessionLease()
	leader := &epb.LeaderKey{Name: name, Key: []byte(sessionKey(name, lease)), Lease: lease, Rev: createdSymbol}
	switch g.random.IntN(30) {
	default:
		leader.Key = append(name, "/"+holderSymbol...)
	case 11, 12, 13, 14, 15:
	case 0:
		return nil
	case 1:
		leader.Name = g.electionName()
	case 2, 3, 4:
		leader.Lease = g.sessionLease()
	case 5, 6:
		leader.Key, leader.Rev = g.key(), pick[int64](g.Generator, 0, createdSymbol)
	case 7, 8:
		leader.Rev += pick[int64](g.Generator, -1, 1)
	case 9:
		leader.Rev = 0 // holds of a key that does not exist
	case 10:
		leader.Key = nil
	}
	return leader
}

// oldestWaiter is mostly the one who waits longest.
func (g *watchedGenerator) oldestWaiter() int {
	if g.one(3) {
		return g.random.IntN(waitersMax)
	}
	return 0
}

// intrusion has somebody write below a name who knows nothing of sessions.
func (g *watchedGenerator) intrusion() Call {
	name := pick(g.Generator, append(lockNames, electionNames...)...)
	key := []byte(fmt.Sprintf("%s/%d", name, g.random.IntN(sessionLeases+2)))
	if g.one(2) {
		return Call{Method: methodPut, Request: &pb.PutRequest{Key: key, Value: g.proclamation(), PrevKv: g.one(2)}}
	}
	request := &pb.DeleteRangeRequest{Key: key, PrevKv: true}
	if g.one(4) {
		request.Key = []byte(name + "/")
		request.RangeEnd = prefixEnd(request.Key)
	}
	return Call{Method: methodDeleteRange, Request: request}
}
