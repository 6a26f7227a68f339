package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

var update = flag.Bool("update", false, "rewrite the golden files and the generated table of docs/protocol.md")

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a machine with the log position that goes with it.
type world struct {
	t        testing.TB
	m        *Machine
	index    uint64
	term     uint64
	sequence uint64
}

// newWorld is an established cluster in term 1 with participants a, b and c.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, m: New(), term: 1}
	w.apply(establish("n1"))
	w.apply(register("a"), register("b"), register("c"))
	return w
}

// apply logs the commands as one entry of the current term.
func (w *world) apply(commands ...*fsmpb.Command) []Result {
	w.t.Helper()
	w.index++
	results, err := w.m.Apply(w.index, w.term, encodeAt(w.t, w.term, clock(w.index), commands...))
	if err != nil {
		w.t.Fatalf("apply at %d: %v", w.index, err)
	}
	return results
}

func (w *world) one(command *fsmpb.Command) Result {
	w.t.Helper()
	return w.apply(command)[0]
}

// ok applies a command that must be taken.
func (w *world) ok(command *fsmpb.Command) Result {
	w.t.Helper()
	r := w.one(command)
	if r.Rejection != nil {
		w.t.Fatalf("rejected: %v", r.Rejection)
	}
	return r
}

// no applies a command that must be rejected and change nothing but the index.
func (w *world) no(command *fsmpb.Command, want Kind) Result {
	w.t.Helper()
	before := w.content()
	r := w.one(command)
	if r.Rejection == nil {
		w.t.Fatalf("taken, want rejection %q", want)
	}
	if r.Rejection.Kind != want {
		w.t.Fatalf("rejection %v, want %q", r.Rejection, want)
	}
	if after := w.content(); after != before {
		w.t.Fatalf("a rejected command changed the state")
	}
	return r
}

// content is the state's hash with the index taken out.
func (w *world) content() string {
	index := w.m.index
	w.m.index = 0
	defer func() { w.m.index = index }()
	_, hash := w.m.Snapshot().Hash()
	return hash
}

func (w *world) attempt() Attempt {
	w.sequence++
	return Attempt{Generation: 1, Term: w.term, Sequence: w.sequence}
}

// begin logs a transaction over the participants and returns its attempt.
func (w *world) begin(id string, participants ...string) Attempt {
	w.t.Helper()
	a := w.attempt()
	w.ok(begin(id, a, participants...))
	return a
}

// beginOnePhase logs a transaction in one phase at a participant that can.
func (w *world) beginOnePhase(id, participant string) Attempt {
	w.t.Helper()
	w.ok(registerWith(participant, canOnePhase))
	a := w.attempt()
	if r := w.ok(beginWith(id, a, onePhase, participant)); !r.Txn.OnePhase {
		w.t.Fatalf("%s began in two phases", id)
	}
	return a
}

// to brings a new transaction over a and b to the state.
func (w *world) to(id string, s State) Attempt {
	w.t.Helper()
	if s == Unknown {
		return w.attempt()
	}
	a := w.begin(id, "a", "b")
	if s == Preparing {
		return a
	}
	if s.Commit() {
		w.ok(commit(id, a, VotePrepared, VotePrepared))
	} else {
		w.ok(abort(id, a, VoteNone, VoteAborted))
	}
	if s.Finished() {
		w.ok(finish(id, a, SettledDone, SettledDone))
	}
	return a
}

func encode(t testing.TB, term uint64, commands ...*fsmpb.Command) []byte {
	t.Helper()
	entry, err := EncodeBatch(term, commands)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// clock is the wall clock of a world when an index is logged: 10 ms an entry.
func clock(index uint64) int64 { return 1_790_000_000_000 + 10*int64(index) }

func encodeAt(t fataler, term uint64, unixMS int64, commands ...*fsmpb.Command) []byte {
	t.Helper()
	encoded := make([][]byte, len(commands))
	for i, c := range commands {
		b, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		encoded[i] = b
	}
	return EncodeEntry(term, unixMS, encoded)
}

func snapshotBytes(t fataler, s *Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Fatalf("WriteTo says %d bytes and wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func restore(t fataler, b []byte) *Machine {
	t.Helper()
	m, err := Restore(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return m
}

func hashOf(m *Machine) string {
	_, hash := m.Snapshot().Hash()
	return hash
}

// golden compares with a file of testdata, or writes it under -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: a change of the durable format needs a new version.\n got %x\nwant %x", path, got, want)
	}
}

// render is a result as text, the same for equal results.
func render(t fataler, r Result) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d", r.Index, r.Term)
	marshal := func(m proto.Message) {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, " %x", raw)
	}
	if r.Txn != nil {
		fmt.Fprintf(&b, " %x", appendTxn(nil, r.Txn))
	}
	if r.Participant != nil {
		marshal(r.Participant.proto())
	}
	if r.Rejection != nil {
		fmt.Fprintf(&b, " %v", r.Rejection)
	}
	return b.String()
}

// checkOnePhase holds a branch against P17: in one phase it is decided as its
// participant said and is over with that, or was given up unheard; in two,
// nobody ever says COMMITTED.
func checkOnePhase(t *Txn, b Branch) error {
	switch {
	case !t.OnePhase && b.Vote == VoteCommitted:
		return fmt.Errorf("COMMITTED from %s, which was asked to prepare", b.Participant)
	case !t.OnePhase || t.State == Preparing:
		return nil
	case len(t.Branches) != 1 || !t.State.Finished() || t.FinishIndex != t.DecideIndex:
		return fmt.Errorf("%d branches, decided at %d, finished at %d", len(t.Branches), t.DecideIndex, t.FinishIndex)
	case b.Settled == GivenUp && b.Vote == VoteNone && !t.State.Commit():
		return nil
	case b.Settled != SettledDone || (b.Vote == VoteCommitted) != t.State.Commit() || (b.Vote == VoteAborted) == t.State.Commit():
		return fmt.Errorf("%s from %s, settled %d", b.Vote, b.Participant, b.Settled)
	}
	return nil
}

// everything is every transaction by the id that it is found under.
func everything(m *Machine) map[string]*Txn {
	all := maps.Clone(m.txns)
	for p := range m.finished.packed.all() {
		all[string(p.id())] = m.Txn(string(p.id()))
	}
	maps.Copy(all, m.finished.loose.byID)
	return all
}

// checkDerived compares everything derived with a recount, and checks I3 and I4.
func checkDerived(m *Machine) error {
	live, operator, unfinished, finished := map[Attempt]*Txn{}, map[string]struct{}{}, map[string]int{}, map[string]uint64{}
	for id, t := range everything(m) {
		if t.ID != id {
			return fmt.Errorf("record of %q under %q", t.ID, id)
		}
		if !t.Refused && !m.begun.has(t.Attempt) {
			return fmt.Errorf("%q has attempt %s, which never began", id, t.Attempt)
		}
		if t.NeedsOperator() {
			operator[id] = struct{}{}
		}
		if t.State.Finished() {
			finished[id] = t.FinishIndex
		} else {
			live[t.Attempt] = t
		}
		for i, b := range t.Branches {
			if t.State.Commit() && !b.Vote.Yes() && !t.OnePhase {
				return fmt.Errorf("I3: %q is %s without a yes of %s", id, t.State, b.Participant)
			}
			if err := checkOnePhase(t, b); err != nil {
				return fmt.Errorf("I3: %q is %s: %w", id, t.State, err)
			}
			if t.State.Finished() && t.Owes(i) {
				return fmt.Errorf("I4: %q is %s and %s owes", id, t.State, b.Participant)
			}
			if b.Settled == Unsettled {
				unfinished[b.Participant]++
			}
		}
	}
	for name, p := range m.participants {
		if p.State == ParticipantRemoved && unfinished[name] > 0 {
			return fmt.Errorf("%s is removed with %d unfinished branches", name, unfinished[name])
		}
		if p.State == ParticipantDraining && unfinished[name] == 0 {
			return fmt.Errorf("%s is drained and not removed", name)
		}
	}
	queued, last := map[string]uint64{}, uint64(0)
	for p := range m.finished.packed.all() {
		id := string(p.id())
		if p.finishIndex() < last {
			return fmt.Errorf("finished are out of order at %q", id)
		}
		last = p.finishIndex()
		if _, twice := queued[id]; twice {
			return fmt.Errorf("%q is packed twice", id)
		}
		queued[id] = p.finishIndex()
	}
	if n := m.finished.packed.count; n != len(queued) || n != len(m.finished.packed.index) {
		return fmt.Errorf("%d are packed, counted as %d, and the index has %d", len(queued), n, len(m.finished.packed.index))
	}
	loose := m.finished.loose
	if !slices.IsSortedFunc(loose.order, compareFinish) || len(loose.order) != len(loose.byID) {
		return fmt.Errorf("the loose are out of order: %d of %d", len(loose.order), len(loose.byID))
	}
	for _, t := range loose.order {
		id := t.ID
		if loose.byID[id] != t {
			return fmt.Errorf("%q is loose twice", id)
		}
		if _, twice := queued[id]; twice {
			return fmt.Errorf("%q is packed and loose", id)
		}
		queued[id] = t.FinishIndex
	}
	switch {
	case !maps.Equal(live, m.live):
		return fmt.Errorf("live is %v, recounted %v", m.live, live)
	case !maps.Equal(operator, m.operator):
		return fmt.Errorf("operator is %v, recounted %v", m.NeedsOperator(), slices.Sorted(maps.Keys(operator)))
	case !maps.Equal(unfinished, m.unfinished):
		return fmt.Errorf("unfinished is %v, recounted %v", m.unfinished, unfinished)
	case !maps.Equal(finished, queued):
		return fmt.Errorf("finished queue holds %v, the records say %v", queued, finished)
	case m.FinishedCount() != len(finished):
		return fmt.Errorf("finished count is %d, recounted %d", m.FinishedCount(), len(finished))
	}
	newest := uint64(0)
	for _, index := range finished {
		newest = max(newest, index)
	}
	if m.LastFinish() != newest {
		return fmt.Errorf("last finish is %d, recounted %d", m.LastFinish(), newest)
	}
	return nil
}
