package differential

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Player applies a workload to one server, for tests that need its traces on disk.
type Player struct {
	side     side
	revision int64
}

// NewPlayer plays on a server with a fresh store.
func NewPlayer(connection *grpc.ClientConn) *Player {
	both := [2]*grpc.ClientConn{connection, connection}
	return &Player{side: side{connections: both, leases: newLeaseNames()}, revision: 1}
}

// NewPlayerAt goes on with a store that stands at a revision.
func NewPlayerAt(connection *grpc.ClientConn, revision int64) *Player {
	player := NewPlayer(connection)
	player.revision = revision
	return player
}

// Play makes the calls one by one; what is refused is part of the workload. It
// stops at a server that does not answer.
func (p *Player) Play(calls []Call) []Outcome {
	outcomes := make([]Outcome, 0, len(calls))
	for _, call := range calls {
		outcome := p.side.do(call, p.revision)
		if revision := headerRevision(outcome.Response); revision > p.revision {
			p.revision = revision
		}
		outcomes = append(outcomes, outcome)
		if code := outcome.Status.Code(); code == codes.Unavailable || code == codes.DeadlineExceeded {
			break
		}
	}
	return outcomes
}

// Workload is a random workload whose leases live long and have known ids.
func Workload(seed uint64, count int) []Call {
	return newGenerator(seed, leasesOfClient).Calls(count)
}

// WorkloadLeases are all ids that the leases of a Workload may have.
func WorkloadLeases() []int64 {
	ids := []int64{leaseOfZero, leaseUnknown}
	for number := int64(1); number <= leaseCount; number++ {
		ids = append(ids, number, -number)
	}
	return ids
}
