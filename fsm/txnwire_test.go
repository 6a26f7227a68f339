package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// generated is the record as the generated code has it, which the one that is
// written by hand must not differ from.
func generated(t *Txn) *fsmpb.SnapshotRecord {
	p := &fsmpb.Transaction{
		Id: t.ID, State: uint32(t.State), Reason: t.Reason.proto(),
		BeginIndex: t.BeginIndex, DecideIndex: t.DecideIndex, FinishIndex: t.FinishIndex,
		TimeoutMs: t.TimeoutMS, Refused: t.Refused, Acknowledged: t.Acknowledged, OnePhase: t.OnePhase,
		BegunMs: t.BegunMS, DecidedAfterMs: t.DecidedAfterMS, FinishedAfterMs: t.FinishedAfterMS,
	}
	if t.digest != nil {
		p.Digest = t.digest[:]
	}
	if !t.Attempt.IsZero() {
		p.Attempt = t.Attempt.proto()
	}
	if t.Inherited != nil {
		p.Priority = t.Inherited.proto()
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		p.Branches = append(p.Branches, &fsmpb.Branch{
			Participant: b.Participant, Digest: b.Digest[:], Payload: t.Payload(i), Vote: uint32(b.Vote),
			Settled: uint32(b.Settled), Reason: b.Reason().proto(), Result: t.Result(i), Truncated: b.Truncated,
		})
	}
	return &fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Transaction{Transaction: p}}
}

var wireRegistry = map[string]*Participant{"a": {Name: "a"}, "payments": {Name: "payments"}}

func drawReason(t *rapid.T, label string) *Reason {
	if !rapid.Bool().Draw(t, label) {
		return nil
	}
	message := strings.Repeat("no ", rapid.SampledFrom([]int{0, 1, 60, MaxReasonBytes / 3}).Draw(t, label+" words"))
	return &Reason{
		Code:        ReasonCode(rapid.Uint32().Draw(t, label+" code")),
		Participant: rapid.SampledFrom([]string{"", "a", "unregistered"}).Draw(t, label+" of"),
		Message:     message,
	}
}

func drawWireAttempt(t *rapid.T, label string) Attempt {
	return Attempt{
		Generation: rapid.Uint32().Draw(t, label+" generation"), Term: rapid.Uint64().Draw(t, label+" term"),
		Sequence: rapid.Uint64().Draw(t, label+" sequence"),
	}
}

func drawDigest(t *rapid.T, label string) Digest {
	return Digest(rapid.SliceOfN(rapid.Byte(), DigestBytes, DigestBytes).Draw(t, label))
}

func drawTxn(t *rapid.T) *Txn {
	x := &Txn{
		ID:    rapid.StringMatching(`[a-z]{1,48}`).Draw(t, "id"),
		State: State(rapid.IntRange(int(Preparing), int(Aborted)).Draw(t, "state")), Reason: drawReason(t, "reason"),
		BeginIndex: rapid.Uint64().Draw(t, "begin"), DecideIndex: rapid.Uint64().Draw(t, "decide"), FinishIndex: rapid.Uint64().Draw(t, "finish"),
		TimeoutMS: rapid.Uint32().Draw(t, "timeout"), Refused: rapid.Bool().Draw(t, "refused"),
		Acknowledged: rapid.Bool().Draw(t, "acknowledged"), OnePhase: rapid.Bool().Draw(t, "one phase"),
		BegunMS:        rapid.Int64Min(0).Draw(t, "begun"),
		DecidedAfterMS: rapid.Uint32().Draw(t, "decided after"), FinishedAfterMS: rapid.Uint32().Draw(t, "finished after"),
		Branches: []Branch{},
	}
	if !x.Refused {
		x.Attempt = drawWireAttempt(t, "attempt")
		if rapid.Bool().Draw(t, "retry") {
			x.inherit(drawWireAttempt(t, "priority"))
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "branches") {
		b := Branch{
			Participant: rapid.SampledFrom([]string{"a", "payments"}).Draw(t, "participant"), Digest: drawDigest(t, "branch digest"),
			Vote: Vote(rapid.IntRange(0, int(VoteCommitted)).Draw(t, "vote")), Settled: Settled(rapid.IntRange(0, int(GivenUp)).Draw(t, "settled")),
			Truncated: rapid.Bool().Draw(t, "truncated"),
		}
		d := &Detail{Reason: drawReason(t, "branch reason")}
		if n := rapid.SampledFrom([]int{0, 1, 127, 128, 20_000}).Draw(t, "content"); n > 0 {
			d.Content = bytes.Repeat([]byte{7}, n)
		}
		if d.Content != nil || d.Reason != nil || x.State == Preparing {
			b.Detail = d
		}
		x.Branches = append(x.Branches, b)
	}
	if rapid.Bool().Draw(t, "another digest") {
		x.setDigest(drawDigest(t, "digest"))
	}
	return x
}

// Records are the bytes of the generated code, and come back as they were.
func TestTxnWire(t *testing.T) {
	scratch := Txn{Branches: []Branch{}} // of the case before: nothing of it may stay
	rapid.Check(t, func(t *rapid.T) {
		x := drawTxn(t)
		got := appendTxn(nil, x)
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(generated(x))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%x\nwant %x", got, want)
		}
		if err := readTxn(&scratch, got, wireRegistry); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(scratch, *x) {
			t.Fatalf("%+v\nwant %+v", scratch, *x)
		}
	})
}

// Whatever bytes are read, there is an error or a record that is written as
// these bytes mean it; nothing is read beyond them.
func FuzzReadTxn(f *testing.F) {
	w := full(f)
	for _, t := range everything(w.m) {
		f.Add(appendTxn(nil, t))
	}
	digest := make([]byte, DigestBytes)
	for _, odd := range []*fsmpb.Transaction{
		{Id: "x", Attempt: &fsmpb.Attempt{Term: 1}, Refused: true},
		{Id: "x", Priority: &fsmpb.Attempt{Term: 1}, Refused: true},
		{Id: "x", Digest: bytes.Repeat([]byte{1}, DigestBytes), Refused: true},
	} {
		b, err := proto.Marshal(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Transaction{Transaction: odd}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	// A payload of no bytes, which is not what there is without one.
	branch := appendBytes(appendBytes(nil, fieldBranchParticipant, "a"), fieldBranchDigest, digest)
	branch = protowire.AppendBytes(protowire.AppendTag(branch, fieldBranchPayload, protowire.BytesType), nil)
	b := appendVarint(appendBytes(nil, fieldTxnID, "x"), fieldTxnState, uint64(Preparing))
	f.Add(appendBytes(nil, fieldRecordTransaction, appendBytes(b, fieldTxnBranches, branch)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, again Txn
		if readTxn(&x, b, w.m.participants) != nil {
			return
		}
		if err := readTxn(&again, appendTxn(nil, &x), w.m.participants); err != nil || !reflect.DeepEqual(x, again) {
			t.Fatalf("%+v, again %+v, %v", x, again, err)
		}
	})
}

func TestReadTxnRefuses(t *testing.T) {
	x := &Txn{ID: "x", State: Committed, Attempt: Attempt{1, 2, 3}, Branches: []Branch{{Participant: "a", Detail: &Detail{Content: []byte("seat")}}}}
	record := func(change func(*fsmpb.Transaction)) []byte {
		p := generated(x)
		change(p.GetTransaction())
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	inside := func(b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, fieldRecordTransaction, protowire.BytesType), b)
	}
	whole := record(func(*fsmpb.Transaction) {})
	_, _, n := protowire.ConsumeTag(whole)
	inner, _ := protowire.ConsumeBytes(whole[n:])
	tests := map[string]struct {
		b    []byte
		want string
	}{
		"nothing":               {nil, "not a transaction's record"},
		"another kind":          {[]byte{1<<3 | 2, 0}, "not a transaction's record"},
		"more than one":         {append(bytes.Clone(whole), whole...), "not a transaction's record"},
		"cut short":             {whole[:len(whole)-1], "field 4 is cut short"},
		"cut short inside":      {inside(inner[:len(inner)-1]), "cut short"},
		"a digest cut":          {record(func(p *fsmpb.Transaction) { p.Digest = make([]byte, 15) }), "field 4 is a digest of 15 bytes"},
		"a digest of a branch":  {record(func(p *fsmpb.Transaction) { p.Branches[0].Digest = []byte{1} }), "branch 0: field 2 is a digest of 1 bytes"},
		"a state of no kind":    {record(func(p *fsmpb.Transaction) { p.State = 6 }), "field 5 is 6, at most 5"},
		"a vote of no kind":     {record(func(p *fsmpb.Transaction) { p.Branches[0].Vote = 5 }), "branch 0: field 4 is 5, at most 4"},
		"an unknown settlement": {record(func(p *fsmpb.Transaction) { p.Branches[0].Settled = 6 }), "branch 0: field 5 is 6, at most 5"},
		"an unknown name":       {record(func(p *fsmpb.Transaction) { p.Branches[0].Participant = "z" }), "no participant that is registered"},
		"a payload":             {record(func(p *fsmpb.Transaction) { p.Branches[0].Payload = []byte("x") }), "what its state excludes"},
		"a clock before 1970":   {record(func(p *fsmpb.Transaction) { p.BegunMs = -1 }), "field 14 is"},
		"an unknown field":      {inside(protowire.AppendVarint(protowire.AppendTag(bytes.Clone(inner), 99, protowire.VarintType), 1)), "field 99 is not known: run the newer program"},
		"fields out of order":   {inside(append(bytes.Clone(inner), 1<<3|2, 1, 'y')), "field 1 stands behind field"},
		"a number for bytes":    {inside([]byte{1 << 3, 1}), "field 1 is no bytes"},
		"bytes for a number":    {inside([]byte{5<<3 | 2, 0}), "field 5 is no number"},
		"a fixed number":        {inside([]byte{1<<3 | 1, 0, 0, 0, 0, 0, 0, 0, 0}), "a type that no field"},
		"field 0":               {inside([]byte{0, 0}), "is no field"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := readTxn(new(Txn), test.b, wireRegistry)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if newer := strings.Contains(test.want, "newer"); err != nil && errors.Is(err, ErrCorrupt) == newer {
				t.Errorf("corrupt or not: %v", err)
			}
		})
	}
}
