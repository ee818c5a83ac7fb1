package differential

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// observer is one who is told of the leaders of an election by both servers.
type observer struct {
	call   Call
	prefix string
	// key and since are the leader that was told last; since is the revision of the store
	// at the beginning, if there was none.
	key    string
	since  int64
	told   [2]<-chan Outcome
	hangUp context.CancelFunc
}

// toldMax is more than an observer can be told between two calls.
const toldMax = 64

// observe begins to; settle takes what is told then. Of too many the first leaves.
func (s *sessions) observe(p *Pair, call Call) Step {
	if len(s.observers) == observersMax {
		s.observers[0].hangUp()
		s.observers = s.observers[1:]
	}
	observer := &observer{
		call: call, prefix: string(call.Request.(*epb.LeaderRequest).Name) + "/", since: p.revision,
	}
	var ctx context.Context
	ctx, observer.hangUp = context.WithCancel(context.Background())
	observer.told[0] = p.reference.observe(ctx, call, nil)
	observer.told[1] = p.subject.observe(ctx, call, s.tamper)
	s.observers = append(s.observers, observer)
	return Step{Call: call}
}

// tell takes what those who observe are told after a change, and compares.
func (s *sessions) tell(p *Pair, there *pb.RangeResponse, counts *sessionCounts) string {
	for _, observer := range s.observers {
		leader := oldest(there, observer.prefix)
		if leader == nil || string(leader.Key) == observer.key && leader.ModRevision == observer.since {
			continue
		}
		told := p.compared(observer.call, observer.next(0, s.patience), observer.next(1, s.patience))
		counts.Told++
		if told.Difference != "" {
			return "told of an election: " + told.String()
		}
		response, ok := told.Reference.Response.(*epb.LeaderResponse)
		if !ok || string(response.Kv.Key) != string(leader.Key) || response.Kv.ModRevision != leader.ModRevision {
			return fmt.Sprintf("the leader is %s, told is: %s", leader, told)
		}
		observer.key, observer.since = string(leader.Key), leader.ModRevision
	}
	return ""
}

// oldest is who leads.
func oldest(there *pb.RangeResponse, prefix string) *mvccpb.KeyValue {
	var leader *mvccpb.KeyValue
	for _, kv := range there.Kvs {
		if strings.HasPrefix(string(kv.Key), prefix) && kv.CreateRevision < createdOr(leader, math.MaxInt64) {
			leader = kv
		}
	}
	return leader
}

func (o *observer) next(number int, patience time.Duration) Outcome {
	select {
	case outcome := <-o.told[number]:
		return outcome
	case <-time.After(patience):
		return outcomeOf(nil, fmt.Errorf("%s: not told of a leader: %w", sideNames[number], errLate))
	}
}

// observe hands over what a server tells, until ctx ends or the server ends it; that is told, too.
func (s *side) observe(ctx context.Context, call Call, tamper func(*epb.LeaderResponse) []*epb.LeaderResponse) <-chan Outcome {
	told := make(chan Outcome, toldMax)
	connection := s.next()
	var next func() Outcome
	if call.AsJSON {
		next = call.openJSONObservation(ctx, s.browser, s.server.Endpoint)
	} else {
		next = openObservation(ctx, connection, call.Request.(*epb.LeaderRequest))
	}
	go func() {
		for {
			outcome := next()
			if ctx.Err() != nil {
				return
			}
			for _, outcome := range tampered(outcome, tamper) {
				told <- outcome
			}
			if outcome.Response == nil {
				return
			}
		}
	}()
	return told
}

func tampered(outcome Outcome, tamper func(*epb.LeaderResponse) []*epb.LeaderResponse) []Outcome {
	response, ok := outcome.Response.(*epb.LeaderResponse)
	if !ok || tamper == nil {
		return []Outcome{outcome}
	}
	var lies []Outcome
	for _, lie := range tamper(response) {
		outcome.Response = proto.Clone(lie)
		lies = append(lies, outcome)
	}
	return lies
}

func openObservation(ctx context.Context, connection *grpc.ClientConn, request *epb.LeaderRequest) (next func() Outcome) {
	stream, err := epb.NewElectionClient(connection).Observe(ctx, request)
	return func() Outcome {
		if err != nil {
			return outcomeOf(nil, err)
		}
		response, err := stream.Recv()
		return outcomeOf(response, err)
	}
}

var errEnded = errors.New("the stream has ended")

// openJSONObservation reads a line for each message.
func (c Call) openJSONObservation(ctx context.Context, client *http.Client, endpoint string) (next func() Outcome) {
	var lines *bufio.Reader
	var answer *jsonAnswer
	return func() Outcome {
		if lines == nil {
			response, err := c.postJSON(ctx, client, endpoint)
			if err != nil {
				return outcomeOf(nil, err)
			}
			context.AfterFunc(ctx, func() { _ = response.Body.Close() })
			lines, answer = bufio.NewReader(response.Body), newJSONAnswer(response)
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return outcomeOf(nil, fmt.Errorf("%w: %q: %w", errEnded, line, err))
		}
		of := *answer
		if of.HTTPStatus != http.StatusOK {
			return of.failure(line)
		}
		return of.message(of.onlyResult(line), newResponse(c.Method))
	}
}
