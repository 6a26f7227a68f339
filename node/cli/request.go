package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// parseRequest reads a transaction in the form of the HTTP interface. It is
// strict: a misspelt field must not become a transaction that means something
// else. A payload is kept as the bytes that stand there.
func parseRequest(text []byte) (*pb.SubmitRequest, error) {
	fields, err := parseObject("", text, "id", "wait", "timeout", "retry_of", "since", "branches")
	if err != nil {
		return nil, err
	}
	req := &pb.SubmitRequest{}
	var wait, timeout string
	var branches []json.RawMessage
	for _, f := range []struct {
		name string
		into any
		want string
	}{
		{"id", &req.Id, "a string"},
		{"wait", &wait, `"DECIDED" or "COMPLETED"`},
		{"timeout", &timeout, `a duration such as "5s"`},
		{"retry_of", &req.RetryOf, "a string"},
		{"branches", &branches, "a list of objects"},
	} {
		if err := fields.read(f.name, f.into, f.want); err != nil {
			return nil, err
		}
	}
	if raw, ok := fields["since"]; ok {
		var since uint64
		if json.Unmarshal(raw, &since) != nil || string(raw) == "null" {
			return nil, fmt.Errorf("since: must be a number of at least 0, got %s", shorten(string(raw)))
		}
		req.Since = proto.Uint64(since)
	}
	if wait != "" {
		w, ok := pb.Wait_value[wait]
		if !ok {
			return nil, fmt.Errorf(`wait: must be "DECIDED" or "COMPLETED", got %q`, wait)
		}
		req.Wait = pb.Wait(w)
	}
	if timeout != "" {
		d, err := time.ParseDuration(timeout)
		if err != nil {
			return nil, fmt.Errorf(`timeout: must be a duration such as "5s", got %q`, timeout)
		}
		req.Timeout = durationpb.New(d)
	}
	for i, raw := range branches {
		b, err := parseRequestBranch(fmt.Sprintf("branches[%d]", i), raw)
		if err != nil {
			return nil, err
		}
		req.Branches = append(req.Branches, b)
	}
	return req, nil
}

func parseRequestBranch(path string, raw json.RawMessage) (*pb.Branch, error) {
	fields, err := parseObject(path, raw, "participant", "payload")
	if err != nil {
		return nil, err
	}
	b := &pb.Branch{}
	if err := fields.read("participant", &b.Participant, "a string"); err != nil {
		return nil, fmt.Errorf("%s.%w", path, err)
	}
	payload, ok := fields["payload"]
	if !ok {
		return nil, fmt.Errorf("%s: payload is missing", path)
	}
	b.Payload = payload
	return b, nil
}

// jsonFields are the fields of one object, unread.
type jsonFields map[string]json.RawMessage

// read reads one field, if it is there.
func (f jsonFields) read(name string, into any, want string) error {
	raw, ok := f[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil || string(raw) == "null" {
		return fmt.Errorf("%s: must be %s, got %s", name, want, shorten(string(raw)))
	}
	return nil
}

// parseObject reads one object whose fields, each at most once and spelt
// exactly so, are among allowed, and nothing behind it.
func parseObject(path string, text []byte, allowed ...string) (jsonFields, error) {
	at := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%s: must be a JSON object, got %q", cmp.Or(path, "the request"), shorten(string(text)))
	}
	fields := jsonFields{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		name, _ := key.(string) // the decoder takes nothing else for a key
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%s: not JSON: %w", at(name), err)
		}
		if !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("%s: unknown field; known are %s", at(name), strings.Join(allowed, ", "))
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s: stands there twice", at(name))
		}
		fields[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the JSON object")
	}
	return fields, nil
}
