package protovec

import (
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// schema lists what the packages declare, one sorted line for each thing. since tells the etcd
// version in which a thing appeared, by etcd's own options.
func schema(since func(protoreflect.Descriptor) string) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, file := range files() {
		enumLines(file.Enums(), since, add)
		for i := range file.Services().Len() {
			serviceLines(file.Services().Get(i), add)
		}
		for i := range file.Extensions().Len() {
			extension := file.Extensions().Get(i)
			add("extension %s %d %s of %s", extension.FullName(), extension.Number(),
				typeName(extension), extension.ContainingMessage().FullName())
		}
	}
	for _, message := range messages() {
		add("message %s since %s", message.FullName(), since(message))
		enumLines(message.Enums(), since, add)
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			add("field %s %d %s %s since %s", field.FullName(), field.Number(), typeName(field),
				labelName(field), since(field))
		}
	}
	sort.Strings(lines)
	return lines
}

func enumLines(
	enums protoreflect.EnumDescriptors,
	since func(protoreflect.Descriptor) string,
	add func(string, ...any),
) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		add("enum %s since %s", enum.FullName(), since(enum))
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			add("value %s.%s %d since %s", enum.FullName(), value.Name(), value.Number(),
				since(value))
		}
	}
}

func serviceLines(service protoreflect.ServiceDescriptor, add func(string, ...any)) {
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		add("method %s %s%s %s%s", method.FullName(),
			streamMark(method.IsStreamingClient()), method.Input().FullName(),
			streamMark(method.IsStreamingServer()), method.Output().FullName())
	}
}

func streamMark(isStream bool) string {
	if isStream {
		return "stream:"
	}
	return ""
}

func typeName(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return fmt.Sprintf("map:%s:%s", typeName(field.MapKey()), typeName(field.MapValue()))
	case field.Message() != nil:
		return string(field.Message().FullName())
	case field.Enum() != nil:
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}

func labelName(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsPacked():
		return "packed"
	case field.IsMap(), field.IsList():
		return "repeated"
	case field.ContainingOneof() != nil:
		return "oneof:" + string(field.ContainingOneof().Name())
	case field.HasPresence():
		return "optional"
	default:
		return "implicit"
	}
}

// versionNumbers are the field numbers of etcd's version options.
var versionNumbers = map[protoreflect.FieldNumber]bool{50000: true, 50001: true, 50002: true, 50003: true}

// versionOption reads a version option by its number, so that it does not matter under which
// generator's types the extension is registered.
func versionOption(descriptor protoreflect.Descriptor) string {
	options, ok := descriptor.Options().(proto.Message)
	if !ok || options == nil {
		return "-"
	}
	since := "-"
	options.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.IsExtension() && versionNumbers[field.Number()] {
			since = value.String()
		}
		return true
	})
	return since
}
