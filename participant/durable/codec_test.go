package durable

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

func attempt(n uint64) rpc.Attempt { return rpc.Attempt{Generation: 1, Term: 1, Sequence: n} }

func anyAttempt() *rapid.Generator[rpc.Attempt] {
	return rapid.Custom(func(t *rapid.T) rpc.Attempt {
		return rpc.Attempt{Generation: rapid.Uint32().Draw(t, "generation"), Term: rapid.Uint64().Draw(t, "term"), Sequence: rapid.Uint64().Draw(t, "sequence")}
	})
}

func TestBindingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := participant.Binding{
			ClusterID: rapid.String().Draw(t, "cluster"), Generation: rapid.Uint32().Draw(t, "generation"),
			Term: rapid.Uint64().Draw(t, "term"), Floor: anyAttempt().Draw(t, "floor"),
		}
		if got, err := decodeBinding(encodeBinding(want)); err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	})
}

// TestSealCoversItsPlace: a value under another key or in another bucket does
// not verify, whatever the lengths.
func TestSealCoversItsPlace(t *testing.T) {
	sealed := seal([]byte("data"), []byte("ab"), []byte("c"))
	if v, ok := unseal([]byte("data"), []byte("ab"), sealed); !ok || string(v) != "c" {
		t.Fatalf("got %q %t", v, ok)
	}
	for _, place := range [][2]string{{"data", "a"}, {"data", "abc"}, {"dataa", "b"}, {"dat", "aab"}, {"journal", "ab"}} {
		if _, ok := unseal([]byte(place[0]), []byte(place[1]), sealed); ok {
			t.Errorf("verifies in bucket %q under key %q", place[0], place[1])
		}
	}
	if _, ok := unseal([]byte("data"), []byte("ab"), sealed[:3]); ok {
		t.Error("a value shorter than its checksum verifies")
	}
}

// FuzzDecode: no bytes make the decoders panic or allocate beyond reason, and
// what they accept is written back the same.
func FuzzDecode(f *testing.F) {
	ref := participant.Ref{ID: "id", Attempt: attempt(1)}
	f.Add(Record{Entry: participant.Entry{Max: attempt(1), Refused: []participant.Ref{ref}}}.Encode())
	f.Add(Record{Entry: participant.Entry{Held: &participant.HeldBranch{Attempt: attempt(1), Result: []byte("x")}}, Tail: []byte("tail")}.Encode())
	f.Add(Record{Entry: participant.Entry{Committed: []participant.Ref{ref}, Kept: &participant.KeptAnswer{Attempt: attempt(1), Result: []byte("x")}}}.Encode())
	f.Add(encodeBinding(participant.Binding{ClusterID: "c", Generation: 1, Term: 2, Floor: attempt(3)}))
	f.Add([]byte{FormatVersion + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRecord("id", b); err == nil {
			again := r.Encode()
			if r2, err := DecodeRecord("id", again); err != nil || !reflect.DeepEqual(r, r2) || !bytes.Equal(again, r2.Encode()) {
				t.Fatalf("record %+v became %+v, %v", r, r2, err)
			}
		}
		if v, err := decodeBinding(b); err == nil {
			if v2, err := decodeBinding(encodeBinding(v)); err != nil || v != v2 {
				t.Fatalf("binding %v became %v, %v", v, v2, err)
			}
		}
	})
}
