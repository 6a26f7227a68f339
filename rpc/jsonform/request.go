package jsonform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const durationName protoreflect.FullName = "google.protobuf.Duration"

// durationLimit is what a duration may be, before the server's own bounds.
const durationLimit = `a duration such as "5s"`

// ParseSubmit reads a transaction. Payloads are kept as the bytes that stand there.
func ParseSubmit(text []byte) (*pb.SubmitRequest, error) {
	req := &pb.SubmitRequest{}
	if err := Parse(text, req); err != nil {
		return nil, err
	}
	return req, nil
}

// Parse reads a request into the message, which is empty. The fields named in
// except come from elsewhere (a path) and are unknown here. Bounds that the
// server checks (lengths, character sets, known names) are not checked here.
func Parse(text []byte, into proto.Message, except ...string) error {
	if err := checkText("", text); err != nil {
		return err
	}
	return parseMessage("", text, into.ProtoReflect(), except)
}

func parseMessage(path string, text []byte, m protoreflect.Message, except []string) error {
	known := m.Descriptor().Fields()
	var names []string
	for i := range known.Len() {
		if name := string(known.Get(i).Name()); !slices.Contains(except, name) {
			names = append(names, name)
		}
	}
	list := strings.Join(names, ", ")
	if list == "" {
		list = "no fields"
	}
	found, err := parseObject(path, text, func(name string) bool { return slices.Contains(names, name) }, list)
	if err != nil {
		return err
	}
	for _, name := range names {
		field := known.ByName(protoreflect.Name(name))
		raw, ok := found[name]
		if !ok && field.Kind() == protoreflect.BytesKind {
			return badField(join(path, name), "JSON", "nothing")
		}
		if !ok {
			continue
		}
		if err := parseField(join(path, name), raw, m, field); err != nil {
			return err
		}
	}
	return nil
}

func parseField(path string, raw json.RawMessage, m protoreflect.Message, field protoreflect.FieldDescriptor) error {
	if !field.IsList() {
		v, err := parseValue(path, raw, field, m.NewField(field))
		if err == nil {
			m.Set(field, v)
		}
		return err
	}
	items, err := parseList(path, raw)
	if err != nil {
		return err
	}
	list := m.Mutable(field).List()
	for i, item := range items {
		v, err := parseValue(fmt.Sprintf("%s[%d]", path, i), item, field, list.NewElement())
		if err != nil {
			return err
		}
		list.Append(v)
	}
	return nil
}

// parseValue reads one value of a field's kind; fresh is an empty one.
func parseValue(path string, raw json.RawMessage, field protoreflect.FieldDescriptor, fresh protoreflect.Value) (protoreflect.Value, error) {
	switch field.Kind() {
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(raw), nil
	case protoreflect.MessageKind:
		if field.Message().FullName() != durationName {
			return fresh, parseMessage(path, raw, fresh.Message(), nil)
		}
	case protoreflect.BoolKind:
		switch string(raw) {
		case "true":
			return protoreflect.ValueOfBool(true), nil
		case "false":
			return protoreflect.ValueOfBool(false), nil
		}
		return fresh, badField(path, "true or false", shown(string(raw)))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if len(raw) > 0 && raw[0] != '"' {
			return parseText(path, string(raw), field)
		}
	default:
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return fresh, badField(path, limitOf(field), shown(string(raw)))
	}
	return parseText(path, *text, field)
}

// parseText reads a scalar value, a duration or an enum from its text.
func parseText(path, text string, field protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	bad := func() (protoreflect.Value, error) {
		return protoreflect.Value{}, badField(path, limitOf(field), strconv.Quote(shown(text)))
	}
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), nil
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return bad()
		}
		return protoreflect.ValueOfUint32(uint32(n)), nil
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return bad()
		}
		return protoreflect.ValueOfUint64(n), nil
	case protoreflect.EnumKind:
		v := field.Enum().Values().ByName(protoreflect.Name(text))
		if v == nil {
			return bad()
		}
		return protoreflect.ValueOfEnum(v.Number()), nil
	case protoreflect.MessageKind:
		d, err := time.ParseDuration(text)
		if err != nil {
			return bad()
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), nil
	default:
		return bad()
	}
}

// limitOf is what a field may be, for people.
func limitOf(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind:
		return "a number of 0 to 4294967295"
	case protoreflect.Uint64Kind:
		return "a number of 0 to 18446744073709551615"
	case protoreflect.EnumKind:
		var names []string
		for i := range field.Enum().Values().Len() {
			names = append(names, string(field.Enum().Values().Get(i).Name()))
		}
		return "one of " + strings.Join(names, ", ")
	default:
		return durationLimit
	}
}
