package differential

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
)

// Pair is a reference and a server under test that have seen the same calls.
type Pair struct {
	reference, subject side
	revision           int64 // newest revision the reference has told
	tamper             func(Call, *Outcome)
	watching           *watching // nil: nobody watches
	sessions           *sessions
}

type side struct {
	server *harness.Server
	// Calls take turns, so that a server that spreads connections over its cores has
	// each of them see what the others did.
	connections [2]*grpc.ClientConn
	turn        int
	leases      leaseNames
	browser     *http.Client
	renewer     *renewer
	scratch     string
}

// memberID follows from what every server advertises (harness).
const memberID = 13195394291058371180

// Setup says how pairs are made.
type Setup struct {
	Reference, Subject harness.Program
	Options            harness.Options
	// Tamper changes what the subject answered. It lets a test prove that
	// differences are found.
	Tamper func(Call, *Outcome)
	// TamperWatch changes what the subject told a watcher, for the same reason.
	TamperWatch func(*pb.WatchResponse)
	// TamperObserve changes what the subject told one who observes an election.
	TamperObserve func(*epb.LeaderResponse) []*epb.LeaderResponse
	// TamperWait changes when the subject answers a call that waits.
	TamperWait func(Call, <-chan Outcome) <-chan Outcome
	// Patience is how long an answer to one who has waited, or observes, may take; watchTimeout unless set.
	Patience time.Duration
}

// NewPair starts two fresh servers.
func NewPair(setup Setup) (*Pair, error) {
	pair := &Pair{revision: 1, tamper: setup.Tamper, sessions: newSessions(setup)}
	started := make(chan error, 2)
	go func() { started <- pair.reference.start(setup.Reference, setup.Options) }()
	go func() { started <- pair.subject.start(setup.Subject, setup.Options) }()
	for range 2 {
		if err := <-started; err != nil {
			defer pair.Close()
			return nil, err
		}
	}
	return pair, nil
}

func (s *side) start(program harness.Program, options harness.Options) error {
	server, err := harness.Launch(program, options)
	if err != nil {
		return err
	}
	s.server = server
	s.leases = newLeaseNames()
	s.browser = &http.Client{Transport: &http.Transport{}}
	s.scratch = filepath.Dir(server.DataDir)
	for i := range s.connections {
		if s.connections[i], err = server.Dial(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends both servers.
func (p *Pair) Close() {
	if p.watching != nil {
		p.watching.close()
	}
	p.sessions.close()
	for _, side := range []*side{&p.reference, &p.subject} {
		if side.browser != nil {
			side.browser.CloseIdleConnections()
		}
		if side.renewer != nil {
			side.renewer.cancel()
		}
		for _, connection := range side.connections {
			if connection != nil {
				_ = connection.Close()
			}
		}
		if side.server != nil {
			side.server.Kill()
		}
	}
}

// Step is one call as it was made, and what came of it.
type Step struct {
	Call       Call // symbols replaced by the reference's numbers
	Reference  Outcome
	Subject    Outcome
	Difference string // empty: none
	Watchers   int    // open after a call of theirs
	Sessions   sessionCounts
	Answers    []Outcome // of the reference, to those who had waited
}

func (s Step) String() string {
	return fmt.Sprintf("%s\nreference: %s\nsubject:   %s\ndifference (-reference +subject):\n%s",
		s.Call, s.Reference, s.Subject, s.Difference)
}

// Do makes one call on both servers, waits for all that follows from it, and compares.
func (p *Pair) Do(call Call) Step {
	if p.watching != nil {
		if step, done := p.watching.before(p, call); done {
			return step
		}
	}
	step := p.do(call)
	if step.Difference == "" {
		step.Difference = p.sessions.settle(p, &step)
	}
	return step
}

func (p *Pair) do(call Call) Step {
	call = p.sessions.bind(p, call)
	switch call.Method {
	case methodLock, methodCampaign:
		return p.sessions.enter(p, call)
	case methodLeave:
		return p.sessions.leave(p, call)
	case methodObserve:
		return p.sessions.observe(p, call)
	}
	return p.ask(call)
}

// ask makes a call that is answered at once.
func (p *Pair) ask(call Call) Step {
	answered := make(chan Outcome)
	go func() { answered <- p.subject.do(call, p.revision) }()
	bound := p.reference.bind(call, p.revision)
	reference := p.reference.do(call, p.revision)
	step := p.compared(bound, reference, <-answered)
	p.proceed(reference.Response)
	if granted, ok := reference.Response.(*pb.LeaseGrantResponse); ok {
		delete(p.sessions.renewed, granted.ID)
	}
	if request, ok := bound.Request.(*pb.CompactionRequest); ok && reference.Response != nil && p.watching != nil {
		p.watching.compacted = request.Revision
	}
	return step
}

// finish compares what came since the last call.
func (p *Pair) finish() string {
	if difference := p.sessions.unexpected(p); difference != "" || p.watching == nil {
		return difference
	}
	return p.watching.settle(p)
}

// compared is the step of a call that both have answered.
func (p *Pair) compared(call Call, reference, subject Outcome) Step {
	if p.tamper != nil {
		p.tamper(call, &subject)
	}
	p.reference.unbind(reference)
	p.subject.unbind(subject)
	p.sessions.exemptTimes(call, &reference, &subject)
	return Step{Call: call, Reference: reference, Subject: subject, Difference: compare(call, reference, subject)}
}

// proceed takes note of the newest revision.
func (p *Pair) proceed(response proto.Message) {
	if revision := headerRevision(response); revision > p.revision {
		p.revision = revision
	}
}

func (s *side) bind(call Call, revision int64) Call {
	if call.Raw == nil {
		call.Request = s.leases.bind(call.Request, revision)
	}
	return call
}

// do waits for the answer.
func (s *side) do(call Call, revision int64) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	outcome := s.transport(ctx, s.bind(call, revision), s.next())
	if grant, ok := outcome.Response.(*pb.LeaseGrantResponse); ok && call.Names != 0 {
		s.leases.add(call.Names, grant.ID)
	}
	s.unbind(outcome)
	return outcome
}

// unbind puts symbols in the place of leases that the server named.
func (s *side) unbind(outcome Outcome) {
	if outcome.Response != nil {
		s.leases.unbind(outcome.Response)
	}
}

// begin does not wait for the answer.
func (s *side) begin(ctx context.Context, call Call, revision int64) <-chan Outcome {
	answer := make(chan Outcome, 1)
	bound, connection := s.bind(call, revision), s.next()
	go func() { answer <- s.transport(ctx, bound, connection) }()
	return answer
}

// next is the connection whose turn it is.
func (s *side) next() *grpc.ClientConn {
	connection := s.connections[s.turn%len(s.connections)]
	s.turn++
	return connection
}

// transport makes a call the way that its method, or the call, asks for.
func (s *side) transport(ctx context.Context, call Call, connection *grpc.ClientConn) Outcome {
	switch {
	case call.AsJSON:
		return call.invokeJSON(ctx, s.browser, s.server.Endpoint)
	case call.Method == methodRangeStream:
		return rangeStream(connection, call.Request.(*pb.RangeRequest))
	case call.Method == methodSnapshot:
		return snapshot(connection, s.scratch)
	case call.Method == methodKeepAlive:
		if s.renewer == nil {
			var err error
			if s.renewer, err = newRenewer(connection); err != nil {
				return outcomeOf(nil, err)
			}
		}
		return s.renewer.ask(call.Request.(*pb.LeaseKeepAliveRequest))
	default:
		return call.invoke(ctx, connection)
	}
}

// compare describes how two outcomes differ beyond what exempt.go allows.
func compare(call Call, reference, subject Outcome) string {
	if difference := compareJSON(reference.JSON, subject.JSON); difference != "" {
		return difference
	}
	if difference := compareStatus(reference, subject); difference != "" {
		return difference
	}
	if reference.Response == nil {
		return ""
	}
	left, right := proto.Clone(reference.Response), proto.Clone(subject.Response)
	for _, response := range []proto.Message{left, right} {
		settleTies(call.Request, response)
		Mask(response)
	}
	alignTimes(right, left)
	return describeDifference(left, right)
}

// describeDifference is empty for equal messages. The time that cmp takes grows
// without bound with nesting, so deeply nested messages are shown whole.
func describeDifference(left, right proto.Message) string {
	const depthMax = 20
	switch {
	case proto.Equal(left, right):
		return ""
	case depth(left.ProtoReflect()) > depthMax:
		return fmt.Sprintf("-%v\n+%v", left, right)
	default:
		return cmp.Diff(left, right, protocmp.Transform())
	}
}

func compareStatus(reference, subject Outcome) string {
	if reference.Status.Code() == codes.OK && subject.Status.Code() == codes.OK {
		return ""
	}
	left, right := reference.Status.Proto(), subject.Status.Proto()
	left.Message, right.Message = plainBlanks(left.Message), plainBlanks(right.Message)
	return cmp.Diff(left, right, protocmp.Transform())
}

func headerRevision(response proto.Message) int64 {
	answer, ok := response.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok {
		return 0
	}
	return answer.GetHeader().GetRevision()
}
