package differential

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A request may hold symbols in place of numbers that are known only when it
// is sent: revisions relative to the current one, ids of leases that the
// server named, watchers that are open, the revisions that keys of elections were
// created at, and who holds a lock. So a part of a history still means something when it is run without the rest.
const (
	revisionSymbol int64 = 1 << 50 // + distance from the current revision
	leaseSymbol    int64 = 1 << 52 // + number of the lease
	watchSymbol    int64 = 1 << 54 // + number among the open watchers of the stream
	createdSymbol  int64 = 1 << 56 // + distance from the revision that the leader's key was created at
	symbolReach    int64 = 1 << 40
)

// holderSymbol stands in a key for the rest of the oldest one that begins like that.
const holderSymbol = "*"

// Now is the symbol for the current revision plus distance.
func Now(distance int64) int64 { return revisionSymbol + distance }

// Lease is the symbol for a lease named by a server.
func Lease(number int64) int64 { return leaseSymbol + number }

// Watcher is the symbol for the id of one of the watchers that a stream has.
func Watcher(number int) int64 { return watchSymbol + int64(number) }

// leaseNames maps between the symbols and the lease ids of one server.
type leaseNames struct {
	ids     map[int64]int64
	symbols map[int64]int64
}

func newLeaseNames() leaseNames {
	return leaseNames{ids: map[int64]int64{}, symbols: map[int64]int64{}}
}

func (n leaseNames) add(symbol, id int64) {
	n.ids[symbol] = id
	n.symbols[id] = symbol
}

// bind returns the request with its symbols replaced by numbers.
func (n leaseNames) bind(request proto.Message, revision int64) proto.Message {
	bound := proto.Clone(request)
	eachInt64(bound.ProtoReflect(), func(value int64) int64 {
		if id, ok := n.ids[value]; ok {
			return id
		}
		if distance := value - revisionSymbol; -symbolReach < distance && distance < symbolReach {
			return revision + distance
		}
		return value
	})
	return bound
}

// unbind replaces the lease ids in a response by their symbols.
func (n leaseNames) unbind(response proto.Message) {
	if len(n.symbols) == 0 {
		return
	}
	eachInt64(response.ProtoReflect(), func(value int64) int64 {
		if symbol, ok := n.symbols[value]; ok {
			return symbol
		}
		return value
	})
}

// eachInt64 rewrites every set int64 field of a message and of those inside it.
func eachInt64(message protoreflect.Message, rewrite func(int64) int64) {
	eachMessage(message, func(message protoreflect.Message) {
		message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			if field.Kind() == protoreflect.Int64Kind && !field.IsList() {
				if old := value.Int(); rewrite(old) != old {
					message.Set(field, protoreflect.ValueOfInt64(rewrite(old)))
				}
			}
			return true
		})
	})
}

// eachMessage visits a message and all messages inside it.
func eachMessage(message protoreflect.Message, visit func(protoreflect.Message)) {
	visit(message)
	eachChild(message, func(child protoreflect.Message) { eachMessage(child, visit) })
}

// depth is how many levels of messages there are.
func depth(message protoreflect.Message) int {
	deepest := 0
	eachChild(message, func(child protoreflect.Message) { deepest = max(deepest, depth(child)) })
	return deepest + 1
}

func eachChild(message protoreflect.Message, visit func(protoreflect.Message)) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Kind() != protoreflect.MessageKind || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				visit(value.List().Get(i).Message())
			}
		default:
			visit(value.Message())
		}
		return true
	})
}
