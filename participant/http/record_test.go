package http

import (
	"reflect"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
)

func testRecords() []record {
	ref := func(n uint64) participant.Ref {
		return participant.Ref{ID: "id", Attempt: rpc.Attempt{Generation: 1, Term: 1, Sequence: n}, Digest: rpc.Digest{byte(n)}}
	}
	held := participant.Entry{Held: &participant.HeldBranch{Attempt: ref(3).Attempt, Digest: ref(3).Digest, Priority: ref(1).Attempt, Result: []byte("r")}}
	return []record{
		{},
		{entry: participant.Entry{Max: ref(1).Attempt, Refused: []participant.Ref{ref(1)}}},
		{entry: held, key: "c/n/id/1.1.3/00"},
		{open: []reservation{{ref(1), "k1", true}, {ref(2), "k2", false}}},
		{entry: held, key: "k", open: []reservation{{ref(1), "", true}}, heuristics: []heuristic{{ref(2), "said é"}, {ref(1), ""}}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, want := range testRecords() {
		j, err := durable.DecodeRecord("id", want.journal().Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := recordOf("id", j); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

// TestFormatIsStable: these bytes are on disks.
func TestFormatIsStable(t *testing.T) {
	r := testRecords()[3]
	at := func(n byte) string {
		return "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + string([]byte{n})
	}
	digest := func(n byte) string { return string([]byte{n}) + string(make([]byte, 15)) }
	want := "\x01" + string(make([]byte, 20)) + "\x00\x00\x00" + "\x00\x02" + at(1) + digest(1) + "\x02k1\x01" + at(2) + digest(2) + "\x02k2\x00" + "\x00"
	if got := string(r.journal().Encode()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzRecord: no bytes make the decoder panic, and what it accepts is written back the same.
func FuzzRecord(f *testing.F) {
	for _, r := range testRecords() {
		f.Add(r.journal().Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := durable.DecodeRecord("id", b)
		if err != nil {
			return
		}
		r, err := recordOf("id", j)
		if err != nil {
			return
		}
		again, err := durable.DecodeRecord("id", r.journal().Encode())
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := recordOf("id", again); err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}
