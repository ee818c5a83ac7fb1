package protovec

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// structDump writes the same text as dump from the Go structs themselves. The messages of 3.6 are
// made by gogoproto, whose embedded structs the reflection of Go's protobuf library cannot enter.
//
// A field that is no pointer in a proto2 message is always present: 3.6 writes it always.
func structDump(message reflect.Value, isProto2, bare bool) string {
	fields := structFields(message)
	sort.Slice(fields, func(i, j int) bool { return fields[i].number < fields[j].number })
	var parts []string
	for _, field := range fields {
		if isAbsent(field, isProto2, bare) {
			continue
		}
		parts = append(parts, field.name+"="+structValue(field.value, isProto2, bare))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

type structField struct {
	number int
	name   string
	value  reflect.Value
	// isMember says that the field is the member of a oneof that is set.
	isMember bool
}

func structFields(message reflect.Value) []structField {
	var fields []structField
	for i := range message.NumField() {
		kind, value := message.Type().Field(i), message.Field(i)
		if _, isOneof := kind.Tag.Lookup("protobuf_oneof"); isOneof {
			if !value.IsNil() {
				member := value.Elem().Elem()
				fields = append(fields, taggedField(member.Type().Field(0), member.Field(0), true))
			}
		} else if _, isField := kind.Tag.Lookup("protobuf"); isField {
			fields = append(fields, taggedField(kind, value, false))
		}
	}
	return fields
}

// taggedField reads a tag such as `protobuf:"varint,2,opt,name=Term"`.
func taggedField(kind reflect.StructField, value reflect.Value, isMember bool) structField {
	parts := strings.Split(kind.Tag.Get("protobuf"), ",")
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		panic(fmt.Sprintf("tag of %s: %v", kind.Name, err))
	}
	field := structField{number: number, value: value, isMember: isMember}
	for _, part := range parts {
		if name, found := strings.CutPrefix(part, "name="); found {
			field.name = name
		}
	}
	return field
}

func isAbsent(field structField, isProto2, bare bool) bool {
	value := field.value
	switch value.Kind() {
	case reflect.Pointer:
		return value.IsNil() || isProto2 && bare && isEmptyBare(value.Elem())
	case reflect.Struct:
		return bare && isEmptyBare(value)
	case reflect.Map:
		return value.Len() == 0
	case reflect.Slice:
		if value.Type().Elem().Kind() != reflect.Uint8 {
			return value.Len() == 0
		}
		if isProto2 && !bare {
			return value.IsNil()
		}
		return value.Len() == 0 && !field.isMember
	default:
		return value.IsZero() && !field.isMember && (bare || !isProto2)
	}
}

func isEmptyBare(value reflect.Value) bool {
	if value.Kind() == reflect.Struct {
		return structDump(value, isProto2Struct(value), true) == "{}"
	}
	return value.IsZero()
}

func structValue(value reflect.Value, isProto2, bare bool) string {
	switch value.Kind() {
	case reflect.Pointer:
		return structValue(value.Elem(), isProto2, bare)
	case reflect.Struct:
		return structDump(value, isProto2Struct(value), bare)
	case reflect.String:
		return quote(value.String())
	case reflect.Int32, reflect.Int64:
		return strconv.FormatInt(value.Int(), 10)
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Uint8 {
			return "<" + hex.EncodeToString(value.Bytes()) + ">"
		}
		var parts []string
		for i := range value.Len() {
			parts = append(parts, structValue(value.Index(i), isProto2, bare))
		}
		return "[" + strings.Join(parts, " ") + "]"
	default:
		return fmt.Sprint(value.Interface())
	}
}

// isProto2Struct tells by the tags: those of proto3 fields end in "proto3", and etcd's proto2
// messages have no oneofs.
func isProto2Struct(message reflect.Value) bool {
	for i := range message.NumField() {
		tag := message.Type().Field(i).Tag
		_, isOneof := tag.Lookup("protobuf_oneof")
		if isOneof || strings.Contains(tag.Get("protobuf"), ",proto3") {
			return false
		}
	}
	return true
}
