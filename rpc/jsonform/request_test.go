package jsonform

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestParseSubmit(t *testing.T) {
	req, err := ParseSubmit([]byte(`{"id": "booking-42", "wait": "COMPLETED", "timeout": "1.5s", "retry_of": "b", "since": 9007199254740993,
		"branches": [{"participant": "seats", "payload": {"n": 9007199254740993, "n":  1}}, {"payload": [1e400, 0.10], "participant": "b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if req.GetId() != "booking-42" || req.GetWait() != pb.Wait_COMPLETED || req.GetTimeout().AsDuration() != 1500*time.Millisecond ||
		req.GetRetryOf() != "b" || req.GetSince() != 9007199254740993 || len(req.GetBranches()) != 2 {
		t.Errorf("got %v", req)
	}
	for i, want := range []string{`{"n": 9007199254740993, "n":  1}`, `[1e400, 0.10]`} {
		if got := string(req.GetBranches()[i].GetPayload()); got != want {
			t.Errorf("the payload's bytes were changed: %s, want %s", got, want)
		}
	}
	req, err = ParseSubmit([]byte(`{"since": "18446744073709551615", "branches": []}`))
	if err != nil || req.GetSince() != 1<<64-1 || req.GetId() != "" {
		t.Errorf("got %v, %v", req, err)
	}
}

func TestParseSubmitIsStrict(t *testing.T) {
	tests := map[string]struct{ text, field, limit string }{
		"nothing":                      {``, "request", "a JSON object"},
		"a list":                       {`[]`, "request", "a JSON object"},
		"a byte order mark":            {"\uFEFF{}", "request", "a JSON object"},
		"a number for a string":        {`{"id": 1}`, "id", "a string"},
		"null":                         {`{"id": null}`, "id", "a string"},
		"other letters":                {`{"ID": "a"}`, "ID", "one of id, branches, wait, timeout, retry_of, since"},
		"twice":                        {`{"id": "a", "id": "b"}`, "id", "at most once"},
		"twice, spelt otherwise":       {`{"id": "a", "\u0069d": "b"}`, "id", "at most once"},
		"something behind":             {`{"id": "a"} {}`, "request", "one JSON object"},
		"a brace behind":               {`{"id": "a"}}`, "request", "one JSON object"},
		"no end":                       {`{"id": "a"`, "request", "JSON"},
		"no value":                     {`{"id": }`, "id", "JSON"},
		"bad UTF-8":                    {"{\"id\": \"a\xff\"}", "request", "UTF-8"},
		"bad UTF-8 in a payload":       {"{\"branches\": [{\"payload\": \"\xc0\x80\"}]}", "request", "UTF-8"},
		"wait in small letters":        {`{"wait": "decided"}`, "wait", "one of DECIDED, COMPLETED"},
		"wait as a number":             {`{"wait": 1}`, "wait", "one of DECIDED, COMPLETED"},
		"a timeout without a unit":     {`{"timeout": "5"}`, "timeout", "a duration"},
		"a timeout as a number":        {`{"timeout": 5}`, "timeout", "a duration"},
		"a timeout as an object":       {`{"timeout": {"seconds": 5}}`, "timeout", "a duration"},
		"a negative since":             {`{"since": -1}`, "since", "a number of 0 to 18446744073709551615"},
		"a fraction":                   {`{"since": 1.5}`, "since", "a number"},
		"an exponent":                  {`{"since": 1e3}`, "since", "a number"},
		"over 64 bits":                 {`{"since": 18446744073709551616}`, "since", "a number"},
		"branches as an object":        {`{"branches": {}}`, "branches", "a list"},
		"branches null":                {`{"branches": null}`, "branches", "a list"},
		"a branch that is a number":    {`{"branches": [1]}`, "branches[0]", "a JSON object"},
		"no payload":                   {`{"branches": [{"participant": "a"}]}`, "branches[0].payload", "JSON"},
		"a participant that is none":   {`{"branches": [{"participant": 1, "payload": 1}]}`, "branches[0].participant", "a string"},
		"an unknown field of a branch": {`{"branches": [{"participant": "a", "payload": 1, "pay": 2}]}`, "branches[0].pay", "one of participant, payload"},
		"two payloads":                 {`{"branches": [{"participant": "a", "payload": 1, "payload": 2}]}`, "branches[0].payload", "at most once"},
		"deeper than anybody reads":    {`{"id": ` + strings.Repeat("[", 20000), "id", "JSON"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSubmit([]byte(test.text))
			fe, ok := errors.AsType[*fsm.FieldError](err)
			if !ok || fe.Field != test.field || !strings.Contains(fe.Limit, test.limit) {
				t.Errorf("got %v, want field %s, limit %s", err, test.field, test.limit)
			}
		})
	}
}

func TestParseOthers(t *testing.T) {
	tests := map[string]struct {
		text   string
		except []string
		want   proto.Message
		field  string
	}{
		"abort":                   {`{"message":"left","since":3}`, []string{"id"}, &pb.AbortRequest{Message: "left", Since: proto.Uint64(3)}, ""},
		"the id is the path's":    {`{"id":"x"}`, []string{"id"}, &pb.AbortRequest{}, "id"},
		"resolve":                 {`{"give_up":["a","b"],"acknowledge":true}`, []string{"id"}, &pb.ResolveRequest{GiveUp: []string{"a", "b"}, Acknowledge: true}, ""},
		"a flag as text":          {`{"acknowledge":"true"}`, nil, &pb.ResolveRequest{}, "acknowledge"},
		"a list with a number":    {`{"give_up":["a",1]}`, nil, &pb.ResolveRequest{}, "give_up[1]"},
		"add":                     {`{"name":"a","endpoints":["127.0.0.1:1"],"accept_incarnation":false}`, nil, &pb.AddParticipantRequest{Name: "a", Endpoints: []string{"127.0.0.1:1"}}, ""},
		"a request with no field": {`{"id":"x"}`, []string{"id", "participant"}, &pb.RetryRequest{}, "id"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := test.want.ProtoReflect().New().Interface()
			err := Parse([]byte(test.text), got, test.except...)
			fe, _ := errors.AsType[*fsm.FieldError](err)
			switch {
			case test.field == "" && (err != nil || !proto.Equal(got, test.want)):
				t.Errorf("got %v, %v", got, err)
			case test.field != "" && (fe == nil || fe.Field != test.field):
				t.Errorf("got %v, want an error about %s", err, test.field)
			}
		})
	}
}

// FuzzParse: whatever is read is a request or an error about a field, and what
// was read as a payload stands in the text.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"a","branches":[{"participant":"p","payload":{}}]}`))
	f.Add([]byte(`{"since":"3","timeout":"5s","wait":"COMPLETED","retry_of":"\u0061"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := ParseSubmit(text)
		if err != nil {
			if fe, ok := errors.AsType[*fsm.FieldError](err); !ok || fe.Field == "" || fe.Limit == "" || fe.Got == "" {
				t.Errorf("%q: %v names no field and limit", text, err)
			}
			return
		}
		for _, b := range req.GetBranches() {
			if !strings.Contains(string(text), string(b.GetPayload())) {
				t.Errorf("%q: payload %q", text, b.GetPayload())
			}
		}
		if _, err := proto.Marshal(req); err != nil {
			t.Errorf("%q: cannot be sent: %v", text, err)
		}
	})
}
