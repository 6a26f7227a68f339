package jsonform

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestResultsStandAsTheyCame(t *testing.T) {
	tests := map[string]struct{ result, want string }{
		"big numbers":    {`[9223372036854775807,18446744073709551616,1e400,0.10,-0]`, `"result":[9223372036854775807,18446744073709551616,1e400,0.10,-0]`},
		"characters":     {`"<&>é\u00e9"`, `"result":"<&>é\u00e9"`},
		"a key twice":    {`{"a":1,"a":2}`, `"result":{"a":1,"a":2}`},
		"null":           {`null`, `"result":null`},
		"not JSON":       {"\x00\x01", `"result_base64":"AAE="`},
		"not UTF-8":      {"\"\xff\"", `"result_base64":"Iv8i"`},
		"no result":      {"", `"result_unavailable":false`},
		"a line of text": {"{\n\"a\" : 1}", `"result":{"a":1}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := Of(&pb.TransactionResponse{Id: "x", Index: 1<<64 - 1, Branches: []*pb.BranchStatus{{Participant: "a", Result: []byte(test.result)}}})
			if err != nil {
				t.Fatal(err)
			}
			line, err := o.Line()
			if err != nil {
				t.Fatal(err)
			}
			text := string(line)
			if !strings.Contains(text, test.want) || !strings.Contains(text, `"index":"18446744073709551615"`) || !json.Valid(line) {
				t.Errorf("got %s, want %s", text, test.want)
			}
			if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
				t.Errorf("not one line: %q", text)
			}
			if test.result == "" && strings.Contains(text, `"result"`) {
				t.Errorf("a result out of nothing: %s", text)
			}
		})
	}
}

func TestListsAndEvents(t *testing.T) {
	one := &pb.TransactionResponse{Id: "x", Branches: []*pb.BranchStatus{{Participant: "a", Result: []byte(`0.10`)}}}
	o, err := Of(&pb.ListResponse{Transactions: []*pb.TransactionResponse{one}, More: true, Next: "x", Index: 7})
	if err != nil {
		t.Fatal(err)
	}
	line, err := o.Line()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"transactions":[{`, `"result":0.10`, `"more":true`, `"next":"x"`, `"index":"7"`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("a list shows %s, not %s", line, want)
		}
	}
	for want, e := range map[string]*pb.WatchEvent{
		`{"kind":"BOOKMARK","token":"7"}` + "\n":         {Kind: pb.WatchEvent_BOOKMARK, Token: "7"},
		`"kind":"CHANGED","token":"7/x","transaction":{`: {Kind: pb.WatchEvent_CHANGED, Token: "7/x", Transaction: one},
	} {
		o, err := Of(e)
		if err != nil {
			t.Fatal(err)
		}
		if line, err := o.Line(); err != nil || !strings.Contains(string(line), want) {
			t.Errorf("an event shows %s, %v, not %s", line, err, want)
		}
	}
}
