package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzReadReport: a report is refused with words that name the form or the
// field, or it is read whole, comes back when it is saved again, and a run
// that is compared with it can be shown and saved.
func FuzzReadReport(f *testing.F) {
	r := &Report{Format: Format, StartedAt: time.Unix(1, 0).UTC(), Client: "c", Settings: Settings{Participants: []string{"a"}}}
	busy := newTally()
	busy.count(ending{fate: committed, latency: time.Millisecond, measured: true, inside: true})
	busy.count(ending{fate: aborted, latency: time.Second, measured: true, reason: "CONFLICT"})
	r.fill(busy, time.Second)
	r.Comparison = Compare(r, r)
	text, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	whole := string(text)
	for _, text := range []string{
		whole, ``, `null`, `{}`, `[]`, `{"format":"concordat-bench/2"}`, `{"format":"` + Format + `"}`, whole[:len(whole)/2], whole + whole, whole + "x",
		`{"format":"` + Format + `","counts":{"commits":"1"}}`, `{"format":"` + Format + `","counts":{"commits":-1}}`,
		`{"format":"` + Format + `","throughput":{"commits_per_second":1e308},"latency":{"commit":{"count":1,"mean_us":1e-320,"histogram":[{"count":-9}]}}}`,
		`{"format":"` + Format + `","check":{"participants":[{"participant":"\u001b[2J"}]},"notes":["\n"],"comparison":{"ratios":[{}]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ReadReport(bytes.NewReader(text))
		if err != nil {
			if got != nil || !strings.Contains(err.Error(), "report") {
				t.Errorf("read %+v, %v", got, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Errorf("half a report was read: %q", text)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ReadReport(bytes.NewReader(again))
		if err != nil || !reflect.DeepEqual(sparse(t, got), sparse(t, back)) {
			t.Errorf("%s came back as %+v, %v", again, back, err)
		}
		now := *r
		now.Comparison = Compare(got, &now)
		if _, err := json.Marshal(&now); err != nil {
			t.Errorf("compared with %q, the report cannot be written: %v", text, err)
		}
		if err := now.WriteTable(io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// sparse is a report without the difference of nil and empty.
func sparse(t *testing.T, r *Report) any {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
