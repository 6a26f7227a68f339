package jsonform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Object is a message as it is shown, which a command may add to.
type Object map[string]any

// Of is any message: fields of the proto file with their defaults, results as
// the JSON that they are.
func Of(m proto.Message) (Object, error) {
	switch m := m.(type) {
	case *pb.TransactionResponse:
		return Transaction(m)
	case *pb.ListResponse:
		return list(m)
	case *pb.WatchEvent:
		return event(m)
	}
	return plain(m)
}

// plain is a message without anything that protobuf's mapping does not know.
func plain(m proto.Message) (Object, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("show %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var o Object
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil {
		return nil, fmt.Errorf("show %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return o, nil
}

// Transaction is a transaction with its results as JSON.
func Transaction(t *pb.TransactionResponse) (Object, error) {
	o, err := plain(t)
	if err != nil {
		return nil, err
	}
	branches, _ := o["branches"].([]any)
	for i, b := range branches {
		if branch, ok := b.(map[string]any); ok {
			Object(branch).SetBytes("result", t.GetBranches()[i].GetResult())
		}
	}
	return o, nil
}

func list(l *pb.ListResponse) (Object, error) {
	items := make([]Object, 0, len(l.GetTransactions()))
	for _, t := range l.GetTransactions() {
		one, err := Transaction(t)
		if err != nil {
			return nil, err
		}
		items = append(items, one)
	}
	return Object{
		"transactions": items, "more": l.GetMore(), "next": l.GetNext(),
		"index": strconv.FormatUint(l.GetIndex(), 10),
	}, nil
}

func event(e *pb.WatchEvent) (Object, error) {
	o := Object{"kind": e.GetKind().String(), "token": e.GetToken()}
	if e.GetTransaction() == nil {
		return o, nil
	}
	t, err := Transaction(e.GetTransaction())
	o["transaction"] = t
	return o, err
}

// SetBytes shows bytes as the JSON that they are under name, or as base64
// under name_base64: a reader always knows which it has.
func (o Object) SetBytes(name string, b []byte) {
	delete(o, name)
	switch {
	case len(b) == 0:
	case json.Valid(b) && utf8.Valid(b):
		o[name] = json.RawMessage(b)
	default:
		o[name+"_base64"] = b
	}
}

// Line is o on one line, with its end. Numbers and strings of results stand as they came.
func (o Object) Line() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return b.Bytes(), nil
}
