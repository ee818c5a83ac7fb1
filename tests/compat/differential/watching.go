package differential

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
)

// progressAll is the id in answers to progress requests, and in refusals.
const progressAll = -1

// watchStream is one stream of one server. What comes is sorted by watcher as
// it comes, and looked at for what holds for each response by itself.
type watchStream struct {
	requests pb.Watch_WatchClient
	cancel   context.CancelFunc
	tamper   func(*pb.WatchResponse)

	lock     sync.Mutex
	arrived  chan struct{} // closed at the next response
	answers  []*pb.WatchResponse
	watchers map[int64]*delivery
	progress int // answers to progress requests so far
	// fragments: the watcher that is being created wants them.
	fragments bool
	// excused are ids that may still be told to have ended, or not.
	excused map[int64]bool
	fault   error
}

// delivery is what one watcher was told.
type delivery struct {
	pending []*mvccpb.Event // not compared so far
	count   int             // of events, from the beginning
	// last is the revision told last; more of it may come only after a fragment.
	last      int64
	fragment  bool
	fragments bool // asked for
	// asked: a progress request was sent when this watcher was there already.
	asked    bool
	promises []promise
}

// promise is a progress answer: all events up to a revision are among the first so many.
type promise struct {
	revision int64
	count    int
}

func openWatchStream(connection *grpc.ClientConn, tamper func(*pb.WatchResponse)) (*watchStream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	requests, err := pb.NewWatchClient(connection).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	stream := &watchStream{
		requests: requests, cancel: cancel, tamper: tamper,
		arrived: make(chan struct{}), watchers: map[int64]*delivery{}, excused: map[int64]bool{},
	}
	go stream.receive()
	return stream, nil
}

func (s *watchStream) receive() {
	for {
		response, err := s.requests.Recv()
		s.lock.Lock()
		if err == nil {
			if s.tamper != nil {
				s.tamper(response)
			}
			err = s.take(response)
		}
		if err != nil && s.fault == nil {
			s.fault = err
		}
		close(s.arrived)
		s.arrived = make(chan struct{})
		s.lock.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *watchStream) take(response *pb.WatchResponse) error {
	watcher := s.watchers[response.WatchId]
	wrong := func(what string) error {
		return fmt.Errorf("%s: %s", what, prototext.MarshalOptions{}.Format(response))
	}
	switch {
	case response.Created && response.Canceled:
		s.answers = append(s.answers, response)
	case response.Created:
		if watcher != nil {
			return wrong("an id is given twice")
		}
		s.watchers[response.WatchId] = &delivery{fragments: s.fragments}
		delete(s.excused, response.WatchId)
		s.answers = append(s.answers, response)
	case response.Canceled && s.excused[response.WatchId]:
		delete(s.excused, response.WatchId)
	case response.Canceled:
		if watcher == nil {
			return wrong("an unknown watcher ends")
		}
		s.answers = append(s.answers, response)
	case len(response.Events) > 0:
		if watcher == nil {
			return wrong("an unknown watcher is told something")
		}
		if fault := watcher.take(response); fault != "" {
			return wrong(fault)
		}
	case response.WatchId == progressAll:
		s.progress++
		for _, watcher := range s.watchers {
			if watcher.asked {
				watcher.promises = append(watcher.promises, promise{response.Header.Revision, watcher.count})
			}
		}
	case watcher == nil:
		return wrong("an unknown watcher is told its progress")
	default:
		watcher.promises = append(watcher.promises, promise{response.Header.Revision, watcher.count})
	}
	return nil
}

// take checks what holds for each response that brings events.
func (d *delivery) take(response *pb.WatchResponse) string {
	first, last := response.Events[0].Kv.ModRevision, response.Events[len(response.Events)-1].Kv.ModRevision
	switch {
	case first <= d.last && !(d.fragment && first == d.last):
		return fmt.Sprintf("revision %d, or a part of it, comes after all of %d was told", first, d.last)
	case response.Header.Revision < last:
		return "events are newer than the header says"
	case response.Fragment && !d.fragments:
		return "a fragment that nobody asked for"
	}
	d.last, d.fragment = last, response.Fragment
	d.count += len(response.Events)
	d.pending = append(d.pending, response.Events...)
	return ""
}

// watchTimeout is for what must come by itself.
const watchTimeout = 10 * time.Second

// await waits until what came is enough. done is called under the lock.
func (s *watchStream) await(timeout time.Duration, done func() bool) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		s.lock.Lock()
		enough, fault, arrived := done(), s.fault, s.arrived
		s.lock.Unlock()
		switch {
		case fault != nil:
			return fault
		case enough:
			return nil
		}
		select {
		case <-arrived:
		case <-deadline.C:
			return errLate
		}
	}
}

var errLate = errors.New("nothing comes any more")

// answer takes the next response that is neither events nor progress.
func (s *watchStream) answer() Outcome {
	err := s.await(watchTimeout, func() bool { return len(s.answers) > 0 })
	if err != nil {
		return outcomeOf(nil, err)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	response := s.answers[0]
	s.answers = s.answers[1:]
	return outcomeOf(response, nil)
}

// ask sends a request that is answered at once.
func (s *watchStream) ask(request *pb.WatchRequest) Outcome {
	s.lock.Lock()
	s.fragments = request.GetCreateRequest().GetFragment()
	s.lock.Unlock()
	if err := s.requests.Send(request); err != nil {
		return outcomeOf(nil, err)
	}
	return s.answer()
}

// progressRetry is the time after which progress is asked for again: etcd says
// nothing while a watcher of the stream is behind, and looks after those each 100 ms.
const progressRetry = 120 * time.Millisecond

// awaitProgress asks until there is an answer.
func (s *watchStream) awaitProgress() error {
	s.lock.Lock()
	before := s.progress
	for _, watcher := range s.watchers {
		watcher.asked = true
	}
	s.lock.Unlock()
	for range watchTimeout / progressRetry {
		if err := s.requests.Send(progressRequest()); err != nil {
			return err
		}
		err := s.await(progressRetry, func() bool { return s.progress > before })
		if !errors.Is(err, errLate) {
			return err
		}
	}
	return fmt.Errorf("asked for progress: %w", errLate)
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// takeEvents hands over the events of a watcher once there are so many.
func (s *watchStream) takeEvents(id int64, count int) ([]*mvccpb.Event, []promise, error) {
	err := s.await(watchTimeout, func() bool { return len(s.watchers[id].pending) >= count })
	s.lock.Lock()
	defer s.lock.Unlock()
	watcher := s.watchers[id]
	events, promises := watcher.pending, watcher.promises
	watcher.pending, watcher.promises = nil, nil
	return events, promises, err
}

// excuse lets an answer for a watcher that has ended come or not come.
func (s *watchStream) excuse(id int64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.excused[id] = true
}

func (s *watchStream) forget(id int64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.watchers, id)
}
