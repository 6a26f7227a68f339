package fsm

import (
	"fmt"
	"math"
)

// readTxn fills t with the record in b, which it does not keep; the slice of
// branches is used again. Participants' names are the registry's strings. That
// the record is whole and right, checkRestored says.
func readTxn(t *Txn, b []byte, registry map[string]*Participant) error {
	*t = Txn{Branches: t.Branches[:0]}
	var digest Digest
	digested := false
	w := insideRecord(b)
	for w.next() {
		switch w.field {
		case fieldTxnID:
			t.ID = string(w.bytes())
		case fieldTxnAttempt:
			t.Attempt = w.attempt()
		case fieldTxnPriority:
			t.inherit(w.attempt())
		case fieldTxnDigest:
			digest, digested = w.digest(), true
		case fieldTxnState:
			t.State = State(w.number(uint64(Aborted)))
		case fieldTxnReason:
			t.Reason = w.reason(registry)
		case fieldTxnBeginIndex:
			t.BeginIndex = w.number(math.MaxUint64)
		case fieldTxnDecideIndex:
			t.DecideIndex = w.number(math.MaxUint64)
		case fieldTxnFinishIndex:
			t.FinishIndex = w.number(math.MaxUint64)
		case fieldTxnTimeoutMS:
			t.TimeoutMS = uint32(w.number(math.MaxUint32))
		case fieldTxnBranches:
			t.readBranch(&w, registry)
		case fieldTxnRefused:
			t.Refused = w.bool()
		case fieldTxnAcknowledged:
			t.Acknowledged = w.bool()
		case fieldTxnBegunMS:
			t.BegunMS = int64(w.number(math.MaxInt64))
		case fieldTxnDecidedAfterMS:
			t.DecidedAfterMS = uint32(w.number(math.MaxUint32))
		case fieldTxnFinishedAfterMS:
			t.FinishedAfterMS = uint32(w.number(math.MaxUint32))
		case fieldTxnOnePhase:
			t.OnePhase = w.bool()
		default:
			w.unknown()
		}
	}
	if digested {
		t.setDigest(digest)
	}
	return w.err
}

// insideRecord reads the fields of the transaction that b is a record of.
func insideRecord(b []byte) wire {
	outer := wire{rest: b}
	if !outer.next() || outer.field != fieldRecordTransaction || len(outer.rest) > 0 {
		outer.broken("is not a transaction's record")
	}
	return outer.message()
}

// readBranch counts on the state of t, which stands before the branches.
func (t *Txn) readBranch(outer *wire, registry map[string]*Participant) {
	var payload, result []byte
	var reason *Reason
	t.Branches = append(t.Branches, Branch{})
	br := &t.Branches[len(t.Branches)-1]
	digested := false
	w := outer.message()
	for w.next() {
		switch w.field {
		case fieldBranchParticipant:
			if known := registry[string(w.bytes())]; known != nil {
				br.Participant = known.Name
			}
		case fieldBranchDigest:
			br.Digest, digested = w.digest(), true
		case fieldBranchPayload:
			payload = w.bytes()
		case fieldBranchVote:
			br.Vote = Vote(w.number(uint64(VoteCommitted)))
		case fieldBranchSettled:
			br.Settled = Settled(w.number(uint64(GivenUp)))
		case fieldBranchReason:
			reason = w.reason(registry)
		case fieldBranchResult:
			result = w.bytes()
		case fieldBranchTruncated:
			br.Truncated = w.bool()
		default:
			w.unknown()
		}
	}
	content, none := payload, result
	if t.State.Decided() {
		content, none = none, content
	}
	switch {
	case w.err != nil:
	case br.Participant == "" || !digested:
		w.broken("has no participant that is registered, or no digest")
	case len(none) > 0:
		w.broken("has what its state excludes")
	}
	if w.err != nil && outer.err == nil {
		outer.err = fmt.Errorf("branch %d: %w", len(t.Branches)-1, w.err)
	}
	if len(content) > 0 || reason != nil || t.State == Preparing {
		br.Detail = &Detail{Content: append([]byte(nil), content...), Reason: reason}
	}
}

func (w *wire) attempt() (a Attempt) {
	inner := w.message()
	for inner.next() {
		switch inner.field {
		case fieldAttemptGeneration:
			a.Generation = uint32(inner.number(math.MaxUint32))
		case fieldAttemptTerm:
			a.Term = inner.number(math.MaxUint64)
		case fieldAttemptSequence:
			a.Sequence = inner.number(math.MaxUint64)
		default:
			inner.unknown()
		}
	}
	w.err = inner.err
	return a
}

func (w *wire) reason(registry map[string]*Participant) *Reason {
	r, inner := new(Reason), w.message()
	for inner.next() {
		switch inner.field {
		case fieldReasonCode:
			r.Code = ReasonCode(inner.number(math.MaxUint32))
		case fieldReasonParticipant:
			if known := registry[string(inner.bytes())]; known != nil {
				r.Participant = known.Name
			} else {
				r.Participant = cut(string(inner.bytes()))
			}
		case fieldReasonMessage:
			r.Message = cut(string(inner.bytes()))
		default:
			inner.unknown()
		}
	}
	w.err = inner.err
	return r
}
