package differential

import (
	"fmt"
	"slices"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// watching holds the watchers that both servers of a pair have, beside a list of
// all changes. From the list follows what each watcher must be told, so that it is
// known what to wait for, and not only that the servers agree.
type watching struct {
	streams []*streamPair
	// recorder is told all changes by the reference; history keeps them.
	recorder  *watchStream
	history   []change
	compacted int64
	calls     int // since all was compared
}

// streamPair is the same stream of both servers.
type streamPair struct {
	sides [2]*watchStream // reference, subject
	open  []*watcher
	// behind: a watcher may still stand in the past. While one does, etcd answers
	// no request for progress.
	behind bool
}

// change is an event, as far as it decides who is told.
type change struct {
	key      string
	kind     mvccpb.Event_EventType
	revision int64
}

// watcher is one that both servers have.
type watcher struct {
	id        int64
	key, end  string // end "": the key alone; "\x00": no end
	noPut     bool
	noDelete  bool
	start     int64
	compacted int64 // when it was created
	next      int   // of the history: what is before was compared
	told      int   // events compared
}

const (
	recorderID   = 0
	watchStreams = 8
	// comparedEach bounds what waits to be compared.
	comparedEach = 250
)

// watch opens the streams; the store is still empty.
func (p *Pair) watch(tamper func(*pb.WatchResponse)) error {
	w := &watching{}
	p.watching = w
	for number := range watchStreams {
		both := &streamPair{}
		w.streams = append(w.streams, both)
		for i, side := range []*side{&p.reference, &p.subject} {
			var liar func(*pb.WatchResponse)
			if i == 1 {
				liar = tamper
			}
			stream, err := openWatchStream(side.connections[number%len(side.connections)], liar)
			if err != nil {
				return err
			}
			both.sides[i] = stream
		}
	}
	var err error
	if w.recorder, err = openWatchStream(p.reference.connections[0], nil); err != nil {
		return err
	}
	created := w.recorder.ask(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1},
	}})
	return created.Status.Err()
}

func (w *watching) close() {
	for _, both := range w.streams {
		for _, stream := range both.sides {
			if stream != nil {
				stream.cancel()
			}
		}
	}
	if w.recorder != nil {
		w.recorder.cancel()
	}
}

// before does what a call needs of the watchers, or all of a call of theirs.
func (w *watching) before(p *Pair, call Call) (step Step, done bool) {
	w.calls++
	if call.Method == methodWatch {
		return w.do(p, call), true
	}
	difference := ""
	switch {
	case call.Method == methodCompact:
		// What a watcher is told of the past depends on how far it was before.
		difference = w.proceed(p)
	case w.calls >= comparedEach:
		difference = w.settle(p)
	}
	return Step{Call: call, Difference: difference}, difference != ""
}

func (w *watching) do(p *Pair, call Call) Step {
	both := w.streams[call.Stream]
	request := p.reference.bind(call, p.revision).Request.(*pb.WatchRequest)
	both.bind(request)
	call.Request = request
	step := Step{Call: call}
	switch union := request.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		w.create(p, both, &step, union.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		w.cancel(p, both, &step, union.CancelRequest.WatchId)
	case *pb.WatchRequest_ProgressRequest:
		step.Difference = w.progress(p, both)
	default:
		for _, side := range both.sides {
			_ = side.requests.Send(request)
		}
	}
	for _, both := range w.streams {
		step.Watchers += len(both.open)
	}
	return step
}

// bind puts the ids of open watchers in place of symbols.
func (b *streamPair) bind(request *pb.WatchRequest) {
	var ids []*int64
	if create := request.GetCreateRequest(); create != nil {
		ids = append(ids, &create.WatchId)
	}
	if cancel := request.GetCancelRequest(); cancel != nil {
		ids = append(ids, &cancel.WatchId)
	}
	for _, id := range ids {
		if number := *id - watchSymbol; 0 <= number && number < symbolReach {
			if len(b.open) == 0 {
				*id = number
			} else {
				*id = b.open[number%int64(len(b.open))].id
			}
		}
	}
}

// ask has both servers answer a request, and compares.
func (w *watching) ask(both *streamPair, step *Step, ask func(*watchStream) Outcome) {
	answered := make(chan Outcome)
	go func() { answered <- ask(both.sides[1]) }()
	step.Reference = ask(both.sides[0])
	step.Subject = <-answered
	step.Difference = compare(step.Call, step.Reference, step.Subject)
}

func (w *watching) create(p *Pair, both *streamPair, step *Step, request *pb.WatchCreateRequest) {
	w.ask(both, step, func(stream *watchStream) Outcome { return stream.ask(step.Call.Request.(*pb.WatchRequest)) })
	created, ok := step.Reference.Response.(*pb.WatchResponse)
	if step.Difference != "" || !ok || created.Canceled {
		return
	}
	watcher := newWatcher(request, created)
	if 0 < watcher.start && watcher.start < w.compacted {
		w.ask(both, step, (*watchStream).answer)
		if step.Difference == "" {
			step.Difference = both.bury(watcher.id)
		}
		both.forget(watcher.id)
		return
	}
	watcher.compacted = w.compacted
	if difference := w.record(p); difference != "" {
		step.Difference = difference
		return
	}
	watcher.next = sort.Search(len(w.history), func(i int) bool { return w.history[i].revision >= watcher.start })
	both.open = append(both.open, watcher)
	both.behind = both.behind || watcher.start <= p.revision
}

func newWatcher(request *pb.WatchCreateRequest, created *pb.WatchResponse) *watcher {
	watcher := &watcher{
		id: created.WatchId, key: string(request.Key), end: string(request.RangeEnd), start: request.StartRevision,
		noPut:    slices.Contains(request.Filters, pb.WatchCreateRequest_NOPUT),
		noDelete: slices.Contains(request.Filters, pb.WatchCreateRequest_NODELETE),
	}
	if watcher.key == "" {
		watcher.key = "\x00"
	}
	if watcher.start == 0 {
		watcher.start = created.Header.Revision + 1
	}
	return watcher
}

func (b *streamPair) find(id int64) *watcher {
	for _, watcher := range b.open {
		if watcher.id == id {
			return watcher
		}
	}
	return nil
}

func (b *streamPair) forget(id int64) {
	b.open = slices.DeleteFunc(b.open, func(watcher *watcher) bool { return watcher.id == id })
	for _, side := range b.sides {
		side.forget(id)
	}
}

// bury cancels a watcher that the server has ended, as the Go client does. With etcd it still
// takes part: its id is taken, the cancel is answered, and while it is there the
// stream is never told any progress. That is exempt: the subject need not answer.
func (b *streamPair) bury(id int64) string {
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}}
	b.sides[1].excuse(id)
	_ = b.sides[1].requests.Send(request)
	if buried := b.sides[0].ask(request); buried.Response == nil {
		return fmt.Sprintf("%s: a compacted watcher is canceled: %s", sideNames[0], buried)
	}
	return ""
}

// cancel ends a watcher that was told all; one that is not there gets no answer.
func (w *watching) cancel(p *Pair, both *streamPair, step *Step, id int64) {
	watcher := both.find(id)
	if watcher == nil {
		for _, side := range both.sides {
			_ = side.requests.Send(step.Call.Request.(*pb.WatchRequest))
		}
		return
	}
	if step.Difference = w.compareOne(p, both, watcher); step.Difference != "" {
		return
	}
	w.ask(both, step, func(stream *watchStream) Outcome { return stream.ask(step.Call.Request.(*pb.WatchRequest)) })
	both.forget(id)
}

// progress has both servers say how far they are. They promise to only if the stream
// has watchers, none of which waits for the future.
func (w *watching) progress(p *Pair, both *streamPair) string {
	future := func(watcher *watcher) bool { return watcher.start > p.revision }
	if len(both.open) == 0 || slices.ContainsFunc(both.open, future) {
		for _, side := range both.sides {
			_ = side.requests.Send(progressRequest())
		}
		return ""
	}
	for i, side := range both.sides {
		if err := side.awaitProgress(); err != nil {
			return fmt.Sprintf("%s: %v", sideNames[i], err)
		}
	}
	both.behind = false
	return w.compareStream(p, both)
}

var sideNames = [2]string{"reference", "subject"}

// proceed waits until no watcher stands in the past, and compares.
func (w *watching) proceed(p *Pair) string {
	for _, both := range w.streams {
		if both.behind {
			if difference := w.progress(p, both); difference != "" {
				return difference
			}
		}
	}
	return w.settle(p)
}

// settle waits until all watchers were told all, and compares.
func (w *watching) settle(p *Pair) string {
	w.calls = 0
	for _, both := range w.streams {
		if difference := w.compareStream(p, both); difference != "" {
			return difference
		}
	}
	return ""
}

func (w *watching) compareStream(p *Pair, both *streamPair) string {
	for _, watcher := range both.open {
		if difference := w.compareOne(p, both, watcher); difference != "" {
			return difference
		}
	}
	for i, side := range both.sides {
		// Also a stream that nobody watches by may have something wrong.
		if err := side.await(watchTimeout, func() bool { return len(side.answers) == 0 }); err != nil {
			return fmt.Sprintf("%s: %v", sideNames[i], err)
		}
	}
	return ""
}

// record brings the history up to the newest revision.
func (w *watching) record(p *Pair) string {
	newest := func() bool {
		pending := w.recorder.watchers[recorderID].pending
		last := int64(1)
		if len(w.history) > 0 {
			last = w.history[len(w.history)-1].revision
		}
		if len(pending) > 0 {
			last = pending[len(pending)-1].Kv.ModRevision
		}
		return last >= p.revision
	}
	if err := w.recorder.await(watchTimeout, newest); err != nil {
		return fmt.Sprintf("the recorder does not come to revision %d: %v", p.revision, err)
	}
	events, _, err := w.recorder.takeEvents(recorderID, 0)
	for _, event := range events {
		w.history = append(w.history, change{string(event.Kv.Key), event.Type, event.Kv.ModRevision})
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// compareOne compares what a watcher was told with the history, and between the servers.
func (w *watching) compareOne(p *Pair, both *streamPair, watcher *watcher) string {
	if difference := w.record(p); difference != "" {
		return difference
	}
	wanted := w.due(watcher)
	var told [2][]*mvccpb.Event
	for i, side := range both.sides {
		events, promises, err := side.takeEvents(watcher.id, len(wanted))
		if difference := matches(events, wanted, err); difference != "" {
			return fmt.Sprintf("%s, watcher %d from %d of %q..%q: %s",
				sideNames[i], watcher.id, watcher.start, watcher.key, watcher.end, difference)
		}
		for _, promise := range promises {
			due := sort.Search(len(wanted), func(i int) bool { return wanted[i].revision > promise.revision })
			if promise.revision > p.revision || promise.count < watcher.told+due {
				return fmt.Sprintf("%s, watcher %d: progress is told to be at %d of %d, after %d events of %d",
					sideNames[i], watcher.id, promise.revision, p.revision, promise.count, watcher.told+due)
			}
		}
		told[i] = events
	}
	for i, event := range told[0] {
		p.reference.leases.unbind(event)
		p.subject.leases.unbind(told[1][i])
		if difference := describeDifference(event, told[1][i]); difference != "" {
			return fmt.Sprintf("watcher %d:\n%s", watcher.id, difference)
		}
	}
	watcher.next = len(w.history)
	watcher.told += len(wanted)
	return ""
}

// due is what a watcher must be told and was not compared so far.
func (w *watching) due(watcher *watcher) []change {
	var due []change
	for i := watcher.next; i < len(w.history); i++ {
		if change := w.history[i]; watcher.wants(change) && !(change.revision == watcher.compacted && w.overwritten(i)) {
			due = append(due, change)
		}
	}
	return due
}

// overwritten: the same revision changed the key once more. Of the revision that the store
// is compacted at only what holds after it is there to be told.
func (w *watching) overwritten(at int) bool {
	for _, later := range w.history[at+1:] {
		if later.revision != w.history[at].revision {
			return false
		}
		if later.key == w.history[at].key {
			return true
		}
	}
	return false
}

func (w *watcher) wants(change change) bool {
	switch {
	case change.revision < w.start:
		return false
	case w.noPut && change.kind == mvccpb.Event_PUT, w.noDelete && change.kind == mvccpb.Event_DELETE:
		return false
	case w.end == "":
		return change.key == w.key
	default:
		return change.key >= w.key && (w.end == "\x00" || change.key < w.end)
	}
}

// matches compares events with what was due. What is missing has been waited for.
func matches(events []*mvccpb.Event, wanted []change, late error) string {
	for i, event := range events {
		if i == len(wanted) {
			return fmt.Sprintf("%d events, wanted %d; the first too many is %v", len(events), len(wanted), event)
		}
		if got := (change{string(event.Kv.Key), event.Type, event.Kv.ModRevision}); got != wanted[i] {
			return fmt.Sprintf("event %d of %d is %+v, wanted %+v", i, len(wanted), got, wanted[i])
		}
	}
	if late != nil && len(events) < len(wanted) {
		return fmt.Sprintf("%v: %d of %d events; the first that is missing is %+v", late, len(events), len(wanted), wanted[len(events)])
	}
	if late != nil {
		return late.Error()
	}
	return ""
}
