package kv

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func anyAttempt() *rapid.Generator[rpc.Attempt] {
	return rapid.Custom(func(t *rapid.T) rpc.Attempt {
		return rpc.Attempt{Generation: rapid.Uint32().Draw(t, "generation"), Term: rapid.Uint64().Draw(t, "term"), Sequence: rapid.Uint64().Draw(t, "sequence")}
	})
}

func anyDigest() *rapid.Generator[rpc.Digest] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) rpc.Digest { return rpc.Digest(b) })
}

func anyRefs(id string) *rapid.Generator[[]participant.Ref] {
	ref := rapid.Custom(func(t *rapid.T) participant.Ref {
		return participant.Ref{ID: id, Attempt: anyAttempt().Draw(t, "attempt"), Digest: anyDigest().Draw(t, "digest")}
	})
	return rapid.Map(rapid.SliceOfN(ref, 0, 4), func(r []participant.Ref) []participant.Ref {
		if len(r) == 0 {
			return nil
		}
		return r
	})
}

func anyValue() *rapid.Generator[kvop.Value] {
	scalar := rapid.OneOf(rapid.Map(rapid.String(), kvop.Text), rapid.Map(rapid.Int64(), kvop.Number))
	list := rapid.Map(rapid.SliceOfN(scalar, 0, 5), func(v []kvop.Value) kvop.Value { return kvop.ListOf(v...) })
	return rapid.OneOf(scalar, list)
}

func anyRecord(id string) *rapid.Generator[record] {
	return rapid.Custom(func(t *rapid.T) record {
		r := record{entry: participant.Entry{
			Max:       anyAttempt().Draw(t, "max"),
			Committed: anyRefs(id).Draw(t, "committed"),
			Refused:   anyRefs(id).Draw(t, "refused"),
		}}
		switch rapid.IntRange(0, 2).Draw(t, "held or kept") {
		case 0:
			return r
		case 1: // whatever a message says, the record must be read again
			r.entry.Kept = &participant.KeptAnswer{Attempt: anyAttempt().Draw(t, "attempt"), Code: pb.Reason_Code(rapid.Int32().Draw(t, "code")), Message: rapid.String().Draw(t, "message")}
			if b := rapid.SliceOf(rapid.Byte()).Draw(t, "result"); len(b) > 0 {
				r.entry.Kept.Result = b
			}
			return r
		}
		r.entry.Held = &participant.HeldBranch{Attempt: anyAttempt().Draw(t, "attempt"), Digest: anyDigest().Draw(t, "digest"), Priority: anyAttempt().Draw(t, "priority")}
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "result"); len(b) > 0 {
			r.entry.Held.Result = b
		}
		for range rapid.IntRange(0, 4).Draw(t, "effects") {
			f := effect{key: rapid.String().Draw(t, "key")}
			if rapid.Bool().Draw(t, "put") {
				f.value = anyValue().Draw(t, "value")
			}
			r.redo = append(r.redo, f)
		}
		for range rapid.IntRange(0, 4).Draw(t, "locks") {
			r.locks = append(r.locks, keyMode{rapid.String().Draw(t, "key"), mode(rapid.IntRange(1, 2).Draw(t, "mode"))})
		}
		return r
	})
}

func encoded(r record) []byte { return r.journal().Encode() }

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyRecord("id").Draw(t, "record")
		b := encoded(want)
		got, err := decodeRecord("id", b)
		if err != nil {
			t.Fatal(err)
		}
		if again := encoded(got); !bytes.Equal(b, again) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if !reflect.DeepEqual(got.entry, want.entry) || !reflect.DeepEqual(got.locks, want.locks) || len(got.redo) != len(want.redo) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for i := range got.redo {
			if got.redo[i].key != want.redo[i].key || !got.redo[i].value.Equal(want.redo[i].value) {
				t.Fatalf("effect %d: got %+v, want %+v", i, got.redo[i], want.redo[i])
			}
		}
	})
}

// TestFormatIsStable: these bytes are on disks.
func TestFormatIsStable(t *testing.T) {
	r := record{
		entry: participant.Entry{Max: attempt(2), Held: &participant.HeldBranch{Attempt: attempt(3), Digest: rpc.Digest{1}, Priority: attempt(1), Result: []byte("r")}},
		redo:  []effect{{"a", kvop.Number(-1)}, {"b", kvop.Value{}}, {"c", kvop.ListOf(kvop.Text("x"))}},
		locks: []keyMode{{"a", exclusive}, {"d", shared}},
	}
	at := func(n byte) string {
		return "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + string([]byte{n})
	}
	want := "\x01" + at(2) + "\x00\x00" + "\x01" + at(3) + "\x01" + string(make([]byte, 15)) + at(1) + "\x01r" +
		"\x03" + "\x01a\x01\x02\x01" + "\x01b\x00" + "\x01c\x01\x03\x01\x01\x01x" + "\x02" + "\x01a\x02" + "\x01d\x01"
	if got := string(encoded(r)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r = record{entry: participant.Entry{Max: attempt(2), Kept: &participant.KeptAnswer{Attempt: attempt(2), Result: []byte("r"), Code: 1, Message: "m"}}}
	want = "\x01" + at(2) + "\x00\x00" + "\x02" + at(2) + "\x01r" + "\x01" + "\x01m"
	if got := string(encoded(r)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzDecode: no bytes make the decoders panic or allocate beyond reason, and
// what they accept is written back the same.
func FuzzDecode(f *testing.F) {
	f.Add(encoded(record{entry: participant.Entry{Max: attempt(1), Refused: []participant.Ref{{ID: "id", Attempt: attempt(1)}}}}))
	f.Add(encoded(record{
		entry: participant.Entry{Held: &participant.HeldBranch{Attempt: attempt(1), Result: []byte("x")}},
		redo:  []effect{{"k", kvop.ListOf(kvop.Number(1), kvop.Text("a"))}, {"j", kvop.Value{}}}, locks: []keyMode{{"k", exclusive}},
	}))
	f.Add(encodeValue(kvop.ListOf(kvop.Number(1), kvop.Text("x"))))
	f.Add([]byte{durable.FormatVersion + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord("id", b); err == nil {
			if r2, err := decodeRecord("id", encoded(r)); err != nil || !reflect.DeepEqual(r, r2) {
				t.Fatalf("record %+v became %+v, %v", r, r2, err)
			}
		}
		if v, err := decodeValue(b); err == nil {
			if v2, err := decodeValue(encodeValue(v)); err != nil || !v.Equal(v2) {
				t.Fatalf("value %v became %v, %v", v, v2, err)
			}
		}
	})
}
