package protovec

import (
	"hash/fnv"
	"math"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// depthMax bounds recursive messages (TxnRequest, raftpb.Message): the message itself is at depth
// 0, and messages at this depth get no message fields.
const depthMax = 2

// filler sets the fields of messages. The same message and variant always get the same values.
type filler struct {
	variant string
	state   uint64
	// oneof chooses the member of each oneof.
	oneof int
}

func newFiller(name protoreflect.FullName, variant string, oneof int) *filler {
	hash := fnv.New64a()
	hash.Write([]byte(string(name) + "/" + variant))
	return &filler{variant: variant, state: hash.Sum64(), oneof: oneof}
}

// next is splitmix64.
func (f *filler) next() uint64 {
	f.state += 0x9e3779b97f4a7c15
	z := f.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (f *filler) below(limit int) int { return int(f.next() % uint64(limit)) }

func (f *filler) fill(message protoreflect.Message, depth int) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() != nil && !field.IsMap() && depth >= depthMax || f.skips(field, depth) {
			continue
		}
		switch {
		case field.IsList():
			list := message.Mutable(field).List()
			for range f.count() {
				f.appendItem(list, field, depth)
			}
		case field.IsMap():
			// One entry: the order of several is not defined on the wire.
			entries := message.Mutable(field).Map()
			item := entries.NewValue()
			f.fill(item.Message(), depth+1)
			entries.Set(f.scalar(field.MapKey()).MapKey(), item)
		case field.Message() != nil:
			f.fill(message.Mutable(field).Message(), depth+1)
		default:
			message.Set(field, f.scalar(field))
		}
	}
}

func (f *filler) appendItem(list protoreflect.List, field protoreflect.FieldDescriptor, depth int) {
	if field.Message() == nil {
		list.Append(f.scalar(field))
		return
	}
	item := list.NewElement()
	f.fill(item.Message(), depth+1)
	list.Append(item)
}

// skips chooses one member of each oneof, and in mixed variants about half of all fields.
func (f *filler) skips(field protoreflect.FieldDescriptor, depth int) bool {
	if oneof := field.ContainingOneof(); oneof != nil {
		// The depth adds variety, and is the same for all members of one oneof.
		chosen := (f.oneof + depth) % oneof.Fields().Len()
		if oneof.Fields().Get(chosen).Number() != field.Number() {
			return true
		}
	}
	return strings.HasPrefix(f.variant, "mix") && f.below(2) == 0
}

func (f *filler) count() int {
	switch f.variant {
	case "zeros":
		return 1
	case "min", "max":
		return 2
	default:
		return 1 + f.below(2)
	}
}

func (f *filler) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.variant {
	case "zeros":
		return zero(field)
	case "min":
		return lowest(field)
	case "max":
		return highest(field)
	default:
		return f.ordinary(field)
	}
}

func zero(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(0)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(0)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(0)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(false)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(0)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{})
	default:
		return protoreflect.ValueOfString("")
	}
}

func lowest(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(math.MinInt64)
	case protoreflect.EnumKind:
		if field.Enum().IsClosed() {
			return protoreflect.ValueOfEnum(field.Enum().Values().Get(0).Number())
		}
		return protoreflect.ValueOfEnum(math.MinInt32)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0})
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(" ")
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1 << 63)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1 << 31)
	default:
		return zero(field)
	}
}

func highest(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(math.MaxInt64)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(math.MaxUint64)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(math.MaxUint32)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		if field.Enum().IsClosed() {
			values := field.Enum().Values()
			return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
		}
		return protoreflect.ValueOfEnum(math.MaxInt32)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0xff, 0xff})
	default:
		return protoreflect.ValueOfString("\u00e9\U0010ffff")
	}
}

func (f *filler) ordinary(field protoreflect.FieldDescriptor) protoreflect.Value {
	// A random width makes varints of all lengths.
	number := f.next() >> f.below(64)
	switch field.Kind() {
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number%4 != 0)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(f.below(values.Len())).Number())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(f.bytes(f.below(6)))
	default:
		return protoreflect.ValueOfString(f.text(f.below(6)))
	}
}

func (f *filler) bytes(count int) []byte {
	bytes := make([]byte, count)
	for i := range bytes {
		bytes[i] = byte(f.next())
	}
	return bytes
}

func (f *filler) text(count int) string {
	letters := []rune("abcxyz019-_/.:\u00e4\u20ac")
	text := make([]rune, count)
	for i := range text {
		text[i] = letters[f.below(len(letters))]
	}
	return string(text)
}
