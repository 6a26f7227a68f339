package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/concordat-tx/concordat/test/history"
)

// Txn is a call with everything that was said of it.
type Txn struct {
	Call
	// Client is the journal that has the call.
	Client  string
	Answers []Answer
}

// definite is the first answer that says how it ended; nil if none does.
func (t *Txn) definite() *Answer {
	var first *Answer
	for i := range t.Answers {
		if a := &t.Answers[i]; a.Outcome != Unknown && (first == nil || a.At < first.At) {
			first = a
		}
	}
	return first
}

// Outcome is how it ended, as far as its clients know.
func (t *Txn) Outcome() Outcome {
	if a := t.definite(); a != nil {
		return a.Outcome
	}
	return Unknown
}

// OnePhase reports whether it is known to have been committed in one phase.
func (t *Txn) OnePhase() bool {
	return slices.ContainsFunc(t.Answers, func(a Answer) bool { return a.OnePhase })
}

// Open reports whether it was under way at a moment.
func (t *Txn) Open(at int64) bool {
	a := t.definite()
	return t.Call.At <= at && (a == nil || a.At >= at)
}

// Record is all that the clients of a run saw.
type Record struct {
	// Txns by id, plain reads among them.
	Txns   map[string]*Txn
	States []State
}

// Replay reads journals. The last line of one may be cut short: its client was killed.
func Replay(paths ...string) (*Record, error) {
	r := &Record{Txns: map[string]*Txn{}}
	var answers []Answer
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in := bufio.NewReaderSize(f, 1<<20)
		for n := 1; ; n++ {
			text, err := in.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			var l line
			if err == nil {
				err = json.Unmarshal(text, &l)
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			switch {
			case l.Call != nil:
				if r.Txns[l.Call.ID] != nil {
					return nil, fmt.Errorf("%s:%d: id %s was used before", path, n, l.Call.ID)
				}
				r.Txns[l.Call.ID] = &Txn{Call: *l.Call, Client: path}
			case l.Answer != nil:
				l.Answer.source = path
				answers = append(answers, *l.Answer)
			case l.State != nil:
				r.States = append(r.States, *l.State)
			}
		}
	}
	for _, a := range answers {
		t := r.Txns[a.ID]
		if t == nil {
			return nil, fmt.Errorf("an answer to %s, which nobody called", a.ID)
		}
		t.Answers = append(t.Answers, a)
	}
	return r, nil
}

// Unknown are the transactions whose outcome no client has learned, by id.
func (r *Record) Unknown() []*Txn {
	var list []*Txn
	for _, t := range r.Txns {
		if !t.Kind.plain() && t.Outcome() == Unknown {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *Txn) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Contradictions are answers about one transaction that cannot all be true, or
// that make no sense by themselves.
func (r *Record) Contradictions() []string {
	var list []string
	for _, t := range r.Txns {
		var first, reads *Answer
		for i := range t.Answers {
			a := &t.Answers[i]
			switch {
			case a.Outcome == Unknown:
				continue
			case first == nil:
				first = a
			case first.Outcome != a.Outcome:
				list = append(list, fmt.Sprintf("%s was answered %s and %s", t.ID, first.Outcome, a.Outcome))
			}
			if a.Outcome == Commit && a.Why != "" {
				list = append(list, fmt.Sprintf("the commit of %s has no proper results: %s", t.ID, a.Why))
			}
			if a.Reads == nil {
				continue
			}
			if reads != nil && !slices.EqualFunc(reads.Reads, a.Reads, slices.Equal) {
				list = append(list, fmt.Sprintf("%s read %v and %v", t.ID, reads.Reads, a.Reads))
			}
			reads = a
		}
	}
	slices.Sort(list)
	return list
}

// Lists is the history of transactions over lists, plain reads included.
func (r *Record) Lists() []*history.Txn {
	var txns []*history.Txn
	for _, t := range r.Txns {
		if t.Kind != Lists && t.Kind != Look {
			continue
		}
		h := &history.Txn{ID: t.ID, Call: t.At, Outcome: outcomes[t.Outcome()]}
		if t.Kind == Look && h.Outcome != history.Committed {
			continue // nothing was read, nothing was done
		}
		if a := t.definite(); a != nil {
			h.Return = a.At
		}
		reads := t.reads()
		for _, op := range t.Ops {
			o := history.Op{Key: op.Participant + "/" + op.Key, Append: op.Do == "append", Value: op.Value}
			if !o.Append {
				if reads == nil {
					continue
				}
				o.List, reads = reads[0], reads[1:]
			}
			h.Ops = append(h.Ops, o)
		}
		txns = append(txns, h)
	}
	return txns
}

var outcomes = map[Outcome]history.Outcome{Commit: history.Committed, Abort: history.Aborted, Refused: history.Aborted, Unknown: history.Unknown}

// reads are what a commit read, nil if no answer had it.
func (t *Txn) reads() [][]int64 {
	for _, a := range t.Answers {
		if a.Outcome == Commit && a.Reads != nil {
			return a.Reads
		}
	}
	return nil
}

// Registers are the sets and reads of single keys.
func (r *Record) Registers() []history.RegisterOp {
	var ops []history.RegisterOp
	for _, t := range r.Txns {
		a := t.definite()
		if t.Kind != Set && t.Kind != Peek || a == nil || a.Outcome != Commit {
			continue
		}
		op := history.RegisterOp{Key: t.Ops[0].Participant + "/" + t.Ops[0].Key, Set: t.Kind == Set, Call: t.At, Return: a.At}
		if op.Set {
			op.Value = fmt.Sprint(t.Ops[0].Value)
		} else if len(a.Reads[0]) > 0 {
			op.Value = fmt.Sprint(a.Reads[0][0])
		}
		ops = append(ops, op)
	}
	return ops
}

// StateOps are the looks at the states of transactions, and what the clients
// of those were told.
func (r *Record) StateOps() []history.StateOp {
	var ops []history.StateOp
	looked := map[string]bool{}
	for _, s := range r.States {
		looked[s.ID] = true
		ops = append(ops, history.StateOp{ID: s.ID, State: history.State(strings.TrimPrefix(s.State, "STATE_")), Call: s.Call, Return: s.Return})
	}
	for id := range looked {
		t := r.Txns[id]
		if t == nil {
			continue
		}
		for _, a := range t.Answers {
			switch a.Outcome {
			case Commit:
				ops = append(ops, history.StateOp{ID: id, State: history.StateCommitting, AtLeast: true, Call: t.At, Return: a.At})
			case Abort:
				ops = append(ops, history.StateOp{ID: id, State: history.StateAborting, AtLeast: true, Call: t.At, Return: a.At})
			case Refused, Unknown:
			}
		}
	}
	return ops
}

// WrongSums are audits that did not find all the money.
func (r *Record) WrongSums(total int64) (audits int, wrong []string) {
	for _, t := range r.Txns {
		reads := t.reads()
		if t.Kind != Audit || t.Outcome() != Commit || reads == nil {
			continue
		}
		audits++
		sum := int64(0)
		for _, balance := range reads {
			for _, n := range balance {
				sum += n
			}
		}
		if sum != total {
			wrong = append(wrong, fmt.Sprintf("%s found %d, and there is %d", t.ID, sum, total))
		}
	}
	slices.Sort(wrong)
	return audits, wrong
}

// Why it was not a commit.
func (t *Txn) Why() string {
	if a := t.definite(); a != nil {
		return a.Why
	}
	return ""
}

// Resolved reports whether its outcome was unknown and then learned by its id.
func (t *Txn) Resolved() bool {
	a := t.definite()
	return a != nil && (len(t.Answers) > 1 && t.Answers[0].Outcome == Unknown || a.source != t.Client)
}
