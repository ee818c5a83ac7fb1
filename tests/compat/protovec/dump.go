package protovec

import (
	"encoding/hex"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// dump writes the fields of a message in a form that both languages print alike: ordered by
// number, `{name=value ...}`, enums as numbers, bytes in hexadecimal between angle brackets, lists
// in square brackets, maps ordered by key. A field is written if it is present; without presence,
// if it is not zero.
//
// bare leaves out the zeros and empty messages in proto2 messages too, since a 3.6 member writes
// most of them whether they were set or not.
func dump(message protoreflect.Message, bare bool) string {
	fields := message.Descriptor().Fields()
	ordered := make([]protoreflect.FieldDescriptor, 0, fields.Len())
	for i := range fields.Len() {
		ordered = append(ordered, fields.Get(i))
	}
	sort.Slice(ordered, func(i, j int) bool { return ordered[i].Number() < ordered[j].Number() })
	var parts []string
	for _, field := range ordered {
		if !message.Has(field) || bare && isBareZero(field, message.Get(field)) {
			continue
		}
		value := dumpField(field, message.Get(field), bare)
		parts = append(parts, string(field.Name())+"="+value)
	}
	return "{" + strings.Join(parts, " ") + "}"
}

func isBareZero(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
	isProto2 := field.ParentFile().Syntax() == protoreflect.Proto2
	switch {
	case !isProto2 || field.IsList() || field.IsMap():
		return false
	case field.Message() != nil:
		return dump(value.Message(), true) == "{}"
	case field.Kind() == protoreflect.BytesKind:
		return len(value.Bytes()) == 0
	case field.Kind() == protoreflect.EnumKind:
		return value.Enum() == 0
	default:
		return value.Interface() == field.Default().Interface()
	}
}

func dumpField(field protoreflect.FieldDescriptor, value protoreflect.Value, bare bool) string {
	switch {
	case field.IsList():
		list := value.List()
		parts := make([]string, 0, list.Len())
		for i := range list.Len() {
			parts = append(parts, dumpValue(field.Kind(), list.Get(i), bare))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case field.IsMap():
		var parts []string
		value.Map().Range(func(key protoreflect.MapKey, item protoreflect.Value) bool {
			parts = append(parts, dumpValue(field.MapKey().Kind(), key.Value(), bare)+":"+
				dumpValue(field.MapValue().Kind(), item, bare))
			return true
		})
		sort.Strings(parts)
		return "(" + strings.Join(parts, " ") + ")"
	default:
		return dumpValue(field.Kind(), value, bare)
	}
}

func dumpValue(kind protoreflect.Kind, value protoreflect.Value, bare bool) string {
	switch kind {
	case protoreflect.MessageKind:
		return dump(value.Message(), bare)
	case protoreflect.BytesKind:
		return "<" + hex.EncodeToString(value.Bytes()) + ">"
	case protoreflect.StringKind:
		return quote(value.String())
	case protoreflect.EnumKind:
		return strconv.Itoa(int(value.Enum()))
	default:
		return fmt.Sprint(value.Interface())
	}
}

// quote relies on the values: they hold no quotes, no tabs and no line ends.
func quote(text string) string {
	return `"` + text + `"`
}
