package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestParseRequest(t *testing.T) {
	req, err := parseRequest([]byte(`{"id": "booking-42", "wait": "COMPLETED", "timeout": "1.5s", "retry_of": "b", "since": 9007199254740993,
		"branches": [{"participant": "seats", "payload": {"n": 9007199254740993, "n":  1}}, {"payload": [1], "participant": "b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if req.GetId() != "booking-42" || req.GetWait() != pb.Wait_COMPLETED || req.GetTimeout().AsDuration() != 1500*time.Millisecond ||
		req.GetRetryOf() != "b" || req.GetSince() != 9007199254740993 || len(req.GetBranches()) != 2 {
		t.Errorf("got %v", req)
	}
	if got := string(req.GetBranches()[0].GetPayload()); got != `{"n": 9007199254740993, "n":  1}` {
		t.Errorf("the payload's bytes were changed: %s", got)
	}
}

func TestParseRequestIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "the request: must be a JSON object",
		`[]`:                                   "must be a JSON object",
		`{"id": 1}`:                            "id: must be a string",
		`{"id": null}`:                         "id: must be a string",
		`{"ID": "a"}`:                          "ID: unknown field",
		`{"id": "a", "id": "b"}`:               "id: stands there twice",
		`{"id": "a"} {}`:                       "behind the JSON object",
		`{"id": "a"`:                           "not JSON",
		`{"id": }`:                             "not JSON",
		`{"wait": "decided"}`:                  "wait: must be",
		`{"wait": 1}`:                          "wait: must be",
		`{"timeout": 5}`:                       "timeout: must be",
		`{"timeout": "5"}`:                     "timeout: must be",
		`{"since": -1}`:                        "since: must be",
		`{"since": 1.5}`:                       "since: must be",
		`{"branches": {}}`:                     "branches: must be",
		`{"branches": [1]}`:                    "branches[0]: must be a JSON object",
		`{"branches": [{"participant": "a"}]}`: "branches[0]: payload is missing",
		`{"branches": [{"participant": 1, "payload": 1}]}`:                 "branches[0].participant: must be a string",
		`{"branches": [{"participant": "a", "payload": 1, "pay": 2}]}`:     "branches[0].pay: unknown field",
		`{"branches": [{"participant": "a", "payload": 1, "payload": 2}]}`: "branches[0].payload: stands there twice",
	} {
		if _, err := parseRequest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"id":"a","branches":[{"participant":"p","payload":{}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := parseRequest(text)
		if err == nil && req == nil {
			t.Error("neither a request nor an error")
		}
	})
}
