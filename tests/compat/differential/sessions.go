package differential

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/protobuf/proto"
)

// sessions holds those who wait for a lock or for the lead on both servers, and those who
// observe. What they do after a call they do by themselves; so that both servers see the
// same order of things, the next call is not made before
//   - one who begins to wait is seen to, by the key,
//   - one who need not wait any longer was answered,
//   - one who leaves is gone, and so is the key,
//   - one who observes was told of the leader of now.
//
// Who need not wait follows from the keys of the reference: nothing that is older is
// left below the name.
type sessions struct {
	waiters   []*waiter
	observers []*observer
	// created are the revisions that keys of locks and elections were created at, as their owners know them.
	created map[string]int64
	// renewed are the leases that a session may have kept alive, see exemptTimes.
	renewed map[int64]bool
	seen    int64 // the revision at which all was settled

	patience   time.Duration
	tamper     func(*epb.LeaderResponse) []*epb.LeaderResponse
	tamperWait func(Call, <-chan Outcome) <-chan Outcome
}

// sessionCounts says what a step had to do with those who wait and observe.
type sessionCounts struct {
	Waits   int // began to wait
	Passed  int // were answered after they had waited
	Left    int // gave up
	Told    int // responses to those who observe
	Omitted int // calls that were not made, since nobody could tell when they begin to wait
}

func (c sessionCounts) plus(other sessionCounts) sessionCounts {
	return sessionCounts{
		c.Waits + other.Waits, c.Passed + other.Passed, c.Left + other.Left, c.Told + other.Told, c.Omitted + other.Omitted,
	}
}

// waiter is a call that waits on both servers.
type waiter struct {
	call    Call
	prefix  string // of the keys that it waits for, while they are older than its own
	key     string
	created int64 // when its key was
	answers [2]<-chan Outcome
	hangUp  context.CancelFunc
}

const (
	// leaseOfObservers is that of etcd's session for who observes, or asks for the leader.
	leaseOfObservers = -1

	waitersMax   = 8
	observersMax = 3
)

func newSessions(setup Setup) *sessions {
	return &sessions{
		created:  map[string]int64{},
		renewed:  map[int64]bool{},
		patience: cmp.Or(setup.Patience, watchTimeout),
		tamper:   setup.TamperObserve, tamperWait: setup.TamperWait,
	}
}

func (s *sessions) close() {
	for _, waiter := range s.waiters {
		waiter.hangUp()
	}
	for _, observer := range s.observers {
		observer.hangUp()
	}
}

// bind puts numbers in the place of symbols that only sessions know of.
func (s *sessions) bind(p *Pair, call Call) Call {
	switch request := call.Request.(type) {
	case *lpb.UnlockRequest:
		if holder := holder(p, request.Key); holder != nil {
			call.Request = &lpb.UnlockRequest{Key: holder.Key}
		}
	case *epb.ProclaimRequest:
		call.Request = &epb.ProclaimRequest{Leader: s.bindKey(p, request.Leader), Value: request.Value}
	case *epb.ResignRequest:
		call.Request = &epb.ResignRequest{Leader: s.bindKey(p, request.Leader)}
	case *pb.CompactionRequest:
		call.Request = s.clamp(p, request)
	case *lpb.LockRequest:
		s.renewed[request.Lease] = true
	case *epb.CampaignRequest:
		s.renewed[request.Lease] = true
	case *epb.LeaderRequest:
		s.renewed[leaseOfObservers] = true
	}
	return call
}

// holder is who holds the lock, or leads, if the key is a symbol for that.
func holder(p *Pair, symbol []byte) *mvccpb.KeyValue {
	prefix, ok := strings.CutSuffix(string(symbol), holderSymbol)
	if !ok {
		return nil
	}
	there, err := p.reference.pairs(prefix, prefixEnd([]byte(prefix)), true)
	if err != nil {
		return nil // the call will tell
	}
	return oldest(there, prefix)
}

func (s *sessions) bindKey(p *Pair, leader *epb.LeaderKey) *epb.LeaderKey {
	if leader == nil {
		return nil
	}
	bound := proto.Clone(leader).(*epb.LeaderKey)
	if holder := holder(p, leader.Key); holder != nil {
		bound.Key, bound.Rev = holder.Key, holder.CreateRevision
		if holder.Lease != 0 { // else it is an intruder's
			bound.Lease = holder.Lease
		}
	}
	s.renewed[bound.Lease] = true
	if distance := bound.Rev - createdSymbol; -symbolReach < distance && distance < symbolReach {
		bound.Rev = s.created[string(bound.Key)] + distance
	}
	return bound
}

// clamp has no compaction overtake the watches by which etcd waits inside: up to 100 ms after
// such a watch was made a compaction behind its start ends it, and the call with it.
// Those who observe and would be overtaken leave before, without a trace.
func (s *sessions) clamp(p *Pair, request *pb.CompactionRequest) *pb.CompactionRequest {
	bound := p.reference.leases.bind(request, p.revision).(*pb.CompactionRequest)
	for _, waiter := range s.waiters {
		bound.Revision = min(bound.Revision, waiter.created)
	}
	s.observers = slices.DeleteFunc(s.observers, func(observer *observer) bool {
		overtaken := observer.since < bound.Revision
		if overtaken {
			observer.hangUp()
		}
		return overtaken
	})
	return bound
}

// enter makes a call that waits if the reference has something older below the name.
func (s *sessions) enter(p *Pair, call Call) Step {
	waiter := newWaiter(p.reference.bind(call, p.revision))
	there, err := p.reference.pairs(waiter.prefix, prefixEnd([]byte(waiter.prefix)), false)
	if err != nil {
		return Step{Call: call, Difference: err.Error()}
	}
	p.proceed(there)
	own := find(there, waiter.key)
	if !waits(there, waiter.prefix, createdOr(own, math.MaxInt64)) {
		step := p.ask(call)
		if answer, ok := step.Reference.Response.(*epb.CampaignResponse); ok {
			s.created[string(answer.Leader.Key)] = answer.Leader.Rev
		}
		return step
	}
	if own != nil && !waiter.isSeenAt(own) || len(s.waiters) == waitersMax {
		return Step{Call: waiter.call, Sessions: sessionCounts{Omitted: 1}}
	}
	return s.queue(p, call, waiter)
}

func newWaiter(bound Call) *waiter {
	name, lease := []byte(nil), int64(0)
	switch request := bound.Request.(type) {
	case *lpb.LockRequest:
		name, lease = request.Name, request.Lease
	case *epb.CampaignRequest:
		name, lease = request.Name, request.Lease
	}
	return &waiter{call: bound, prefix: string(name) + "/", key: sessionKey(name, lease)}
}

// sessionKey is the key by which a lease takes part.
func sessionKey(name []byte, lease int64) string { return fmt.Sprintf("%s/%x", name, lease) }

// isSeenAt: a call of one whose key is there already changes it, so that it can be seen to have begun.
func (w *waiter) isSeenAt(own *mvccpb.KeyValue) bool {
	campaign, ok := w.call.Request.(*epb.CampaignRequest)
	return ok && string(campaign.Value) != string(own.Value)
}

// queue makes a call that waits, and waits until it does.
func (s *sessions) queue(p *Pair, call Call, waiter *waiter) Step {
	var ctx context.Context
	ctx, waiter.hangUp = context.WithCancel(context.Background())
	before := p.revision
	var outcomes [2]Outcome
	var queued [2]bool
	for i, side := range []*side{&p.reference, &p.subject} {
		waiter.answers[i] = side.begin(ctx, call, p.revision)
	}
	if s.tamperWait != nil {
		waiter.answers[1] = s.tamperWait(waiter.call, waiter.answers[1])
	}
	for i, side := range []*side{&p.reference, &p.subject} {
		outcomes[i], queued[i] = side.awaitQueued(waiter, i, before)
	}
	if queued[0] != queued[1] {
		waiter.hangUp()
		return Step{
			Call: waiter.call, Reference: outcomes[0], Subject: outcomes[1],
			Difference: fmt.Sprintf("who waits? reference: %t, subject: %t", queued[0], queued[1]),
		}
	}
	step := p.compared(waiter.call, outcomes[0], outcomes[1])
	p.proceed(outcomes[0].Response)
	if !queued[0] {
		waiter.hangUp()
		return step
	}
	waiter.created = outcomes[0].Response.(*pb.RangeResponse).Kvs[0].CreateRevision
	s.created[waiter.key] = waiter.created
	s.waiters = append(s.waiters, waiter)
	step.Sessions.Waits = 1
	return step
}

// awaitQueued waits until a call was answered after all, or its key is seen to be put.
func (s *side) awaitQueued(waiter *waiter, number int, before int64) (Outcome, bool) {
	pause := 200 * time.Microsecond
	for deadline := time.Now().Add(callTimeout); time.Now().Before(deadline); pause *= 2 {
		select {
		case outcome := <-waiter.answers[number]:
			return outcome, false
		case <-time.After(min(pause, 20*time.Millisecond)):
		}
		there, err := s.pairs(waiter.key, nil, false)
		if err != nil {
			return outcomeOf(nil, err), false
		}
		if own := find(there, waiter.key); own != nil && own.ModRevision > before {
			return outcomeOf(there, nil), true
		}
	}
	return outcomeOf(nil, errLate), false
}

// pairs reads a range; keys alone have all but their values.
func (s *side) pairs(key string, end []byte, keysOnly bool) (*pb.RangeResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return pb.NewKVClient(s.connections[0]).Range(ctx, &pb.RangeRequest{
		Key: []byte(key), RangeEnd: end, KeysOnly: keysOnly, Serializable: true,
	})
}

func find(there *pb.RangeResponse, key string) *mvccpb.KeyValue {
	for _, kv := range there.Kvs {
		if string(kv.Key) == key {
			return kv
		}
	}
	return nil
}

func createdOr(kv *mvccpb.KeyValue, otherwise int64) int64 {
	if kv == nil {
		return otherwise
	}
	return kv.CreateRevision
}

// waits: below a prefix there is something that was created before a revision.
func waits(there *pb.RangeResponse, prefix string, created int64) bool {
	return slices.ContainsFunc(there.Kvs, func(kv *mvccpb.KeyValue) bool {
		return strings.HasPrefix(string(kv.Key), prefix) && kv.CreateRevision < created
	})
}

// leave has the client of a waiting call hang up, on both sides, and waits until its key is
// gone. Who has no key any more stays: nobody could see it leave.
func (s *sessions) leave(p *Pair, call Call) Step {
	step := Step{Call: call}
	if len(s.waiters) == 0 {
		return step
	}
	number := call.Stream % len(s.waiters)
	waiter := s.waiters[number]
	there, err := p.reference.pairs(waiter.key, nil, true)
	if own := find(there, waiter.key); err != nil || own == nil || own.CreateRevision != waiter.created {
		return step
	}
	waiter.hangUp()
	s.waiters = slices.Delete(s.waiters, number, number+1)
	step.Call.Request = waiter.call.Request
	step.Reference, step.Subject = p.reference.awaitGone(waiter), p.subject.awaitGone(waiter)
	step.Difference = compare(call, step.Reference, step.Subject)
	p.proceed(step.Reference.Response)
	step.Sessions.Left = 1
	return step
}

func (s *side) awaitGone(waiter *waiter) Outcome {
	pause := 200 * time.Microsecond
	for deadline := time.Now().Add(watchTimeout); time.Now().Before(deadline); pause *= 2 {
		there, err := s.pairs(waiter.key, nil, false)
		if err != nil || len(there.Kvs) == 0 {
			return outcomeOf(there, err)
		}
		time.Sleep(min(pause, 20*time.Millisecond))
	}
	return outcomeOf(nil, fmt.Errorf("%q left, the key stays: %w", waiter.key, errLate))
}

// settle waits for what follows from a call, and compares.
func (s *sessions) settle(p *Pair, step *Step) string {
	if len(s.waiters)+len(s.observers) > 0 && s.mayFollow(p, step.Call) {
		if difference := s.follow(p, step); difference != "" {
			return difference
		}
	}
	return s.unexpected(p)
}

func (s *sessions) follow(p *Pair, step *Step) string {
	there, err := p.reference.pairs("\x00", []byte{0}, true)
	if err != nil {
		return err.Error()
	}
	p.proceed(there)
	s.seen = p.revision
	if difference := s.passOn(p, there, step); difference != "" {
		return difference
	}
	return s.tell(p, there, &step.Sessions)
}

// mayFollow leaves out what is of no interest to anybody.
func (s *sessions) mayFollow(p *Pair, call Call) bool {
	switch request := call.Request.(type) {
	case *pb.PutRequest:
		return slices.ContainsFunc(s.observers, func(observer *observer) bool {
			return strings.HasPrefix(string(request.Key), observer.prefix)
		})
	case *epb.LeaderRequest, *epb.CampaignRequest, *lpb.LockRequest:
		return true
	}
	return p.revision > s.seen
}

// passOn takes the answers to those who need not wait any longer.
func (s *sessions) passOn(p *Pair, there *pb.RangeResponse, step *Step) string {
	left := s.waiters[:0]
	difference := ""
	for _, waiter := range s.waiters {
		if difference != "" || waits(there, waiter.prefix, waiter.created) {
			left = append(left, waiter)
			continue
		}
		passed := p.compared(waiter.call, waiter.answer(0, s.patience), waiter.answer(1, s.patience))
		waiter.hangUp()
		step.Sessions.Passed++
		step.Answers = append(step.Answers, passed.Reference)
		if passed.Difference != "" {
			difference = "waited until now: " + passed.String()
		}
	}
	s.waiters = left
	return difference
}

func (w *waiter) answer(number int, patience time.Duration) Outcome {
	select {
	case outcome := <-w.answers[number]:
		return outcome
	case <-time.After(patience):
		return outcomeOf(nil, fmt.Errorf("%s: not answered, and nothing older is there: %w", sideNames[number], errLate))
	}
}

// unexpected is what came too early, or without a reason.
func (s *sessions) unexpected(p *Pair) string {
	for _, waiter := range s.waiters {
		for i, name := range sideNames {
			select {
			case outcome := <-waiter.answers[i]:
				return fmt.Sprintf("%s: %s is answered while something older is there: %s", name, waiter.call, outcome)
			default:
			}
		}
	}
	for _, observer := range s.observers {
		for i, name := range sideNames {
			select {
			case outcome := <-observer.told[i]:
				return fmt.Sprintf("%s: told of %q without a change at revision %d: %s", name, observer.prefix, p.revision, outcome)
			default:
			}
		}
	}
	return ""
}

// exemptTimes takes out what is left of a lease that a session may have kept alive: etcd's
// asks for it and takes that back at once, so it is a matter of microseconds.
func (s *sessions) exemptTimes(call Call, outcomes ...*Outcome) {
	request, ok := call.Request.(*pb.LeaseTimeToLiveRequest)
	if !ok || !s.renewed[request.ID] {
		return
	}
	for _, outcome := range outcomes {
		if response, ok := outcome.Response.(*pb.LeaseTimeToLiveResponse); ok && 0 < response.TTL && response.TTL <= response.GrantedTTL {
			response.TTL = response.GrantedTTL
		}
	}
}
