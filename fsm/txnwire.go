package fsm

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// A transaction's record as bytes: the message Transaction of log.proto inside
// a SnapshotRecord, as it stands in snapshots and, for finished ones, in memory.
// It is written and read by hand because it is done for every transaction, and
// for every one of a million when a node starts. txnwire_test.go holds it
// against what the generated code writes and reads.

// The fields of log.proto.
const (
	fieldRecordTransaction protowire.Number = 4 // of SnapshotRecord

	fieldAttemptGeneration protowire.Number = 1
	fieldAttemptTerm       protowire.Number = 2
	fieldAttemptSequence   protowire.Number = 3

	fieldReasonCode        protowire.Number = 1
	fieldReasonParticipant protowire.Number = 2
	fieldReasonMessage     protowire.Number = 3

	fieldTxnID              protowire.Number = 1
	fieldTxnAttempt         protowire.Number = 2
	fieldTxnPriority        protowire.Number = 3
	fieldTxnDigest          protowire.Number = 4
	fieldTxnState           protowire.Number = 5
	fieldTxnReason          protowire.Number = 6
	fieldTxnBeginIndex      protowire.Number = 7
	fieldTxnDecideIndex     protowire.Number = 8
	fieldTxnFinishIndex     protowire.Number = 9
	fieldTxnTimeoutMS       protowire.Number = 10
	fieldTxnBranches        protowire.Number = 11
	fieldTxnRefused         protowire.Number = 12
	fieldTxnAcknowledged    protowire.Number = 13
	fieldTxnBegunMS         protowire.Number = 14
	fieldTxnDecidedAfterMS  protowire.Number = 15
	fieldTxnFinishedAfterMS protowire.Number = 16
	fieldTxnOnePhase        protowire.Number = 17

	fieldBranchParticipant protowire.Number = 1
	fieldBranchDigest      protowire.Number = 2
	fieldBranchPayload     protowire.Number = 3
	fieldBranchVote        protowire.Number = 4
	fieldBranchSettled     protowire.Number = 5
	fieldBranchReason      protowire.Number = 6
	fieldBranchResult      protowire.Number = 7
	fieldBranchTruncated   protowire.Number = 8
)

// appendTxn appends t as a SnapshotRecord. The bytes depend on t alone. What
// follows from the rest is left out: the digest, and the priority where it is the
// attempt, as of all but retries.
func appendTxn(b []byte, t *Txn) []byte {
	b, at := openMessage(b, fieldRecordTransaction)
	b = appendBytes(b, fieldTxnID, t.ID)
	if !t.Attempt.IsZero() {
		b = appendAttempt(b, fieldTxnAttempt, t.Attempt)
	}
	if t.Inherited != nil {
		b = appendAttempt(b, fieldTxnPriority, *t.Inherited)
	}
	if t.digest != nil {
		b = appendBytes(b, fieldTxnDigest, t.digest[:])
	}
	b = appendVarint(b, fieldTxnState, uint64(t.State))
	b = appendReason(b, fieldTxnReason, t.Reason)
	b = appendVarint(b, fieldTxnBeginIndex, t.BeginIndex)
	b = appendVarint(b, fieldTxnDecideIndex, t.DecideIndex)
	b = appendVarint(b, fieldTxnFinishIndex, t.FinishIndex)
	b = appendVarint(b, fieldTxnTimeoutMS, uint64(t.TimeoutMS))
	for i := range t.Branches {
		b = t.appendBranch(b, i)
	}
	b = appendBool(b, fieldTxnRefused, t.Refused)
	b = appendBool(b, fieldTxnAcknowledged, t.Acknowledged)
	b = appendVarint(b, fieldTxnBegunMS, uint64(t.BegunMS))
	b = appendVarint(b, fieldTxnDecidedAfterMS, uint64(t.DecidedAfterMS))
	b = appendVarint(b, fieldTxnFinishedAfterMS, uint64(t.FinishedAfterMS))
	b = appendBool(b, fieldTxnOnePhase, t.OnePhase)
	return closeMessage(b, at)
}

func (t *Txn) appendBranch(b []byte, i int) []byte {
	br := &t.Branches[i]
	b, at := openMessage(b, fieldTxnBranches)
	b = appendBytes(b, fieldBranchParticipant, br.Participant)
	b = appendBytes(b, fieldBranchDigest, br.Digest[:])
	b = appendBytes(b, fieldBranchPayload, t.Payload(i))
	b = appendVarint(b, fieldBranchVote, uint64(br.Vote))
	b = appendVarint(b, fieldBranchSettled, uint64(br.Settled))
	b = appendReason(b, fieldBranchReason, br.Reason())
	b = appendBytes(b, fieldBranchResult, t.Result(i))
	b = appendBool(b, fieldBranchTruncated, br.Truncated)
	return closeMessage(b, at)
}

func appendAttempt(b []byte, field protowire.Number, a Attempt) []byte {
	b, at := openMessage(b, field)
	b = appendVarint(b, fieldAttemptGeneration, uint64(a.Generation))
	b = appendVarint(b, fieldAttemptTerm, a.Term)
	b = appendVarint(b, fieldAttemptSequence, a.Sequence)
	return closeMessage(b, at)
}

func appendReason(b []byte, field protowire.Number, r *Reason) []byte {
	if r == nil {
		return b
	}
	b, at := openMessage(b, field)
	b = appendVarint(b, fieldReasonCode, uint64(r.Code))
	b = appendBytes(b, fieldReasonParticipant, r.Participant)
	b = appendBytes(b, fieldReasonMessage, r.Message)
	return closeMessage(b, at)
}

// openMessage begins a message inside another; what is appended until
// closeMessage belongs to it.
func openMessage(b []byte, field protowire.Number) (opened []byte, at int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(b, 0), len(b)
}

// closeMessage writes the length of what stands behind at, for which one byte
// is free: most messages are shorter than 128 bytes, the others are moved.
func closeMessage(b []byte, at int) []byte {
	n := len(b) - at - 1
	size := protowire.SizeVarint(uint64(n))
	if size > 1 {
		b = append(b, make([]byte, size-1)...)
		copy(b[at+size:], b[at+1:at+1+n])
	}
	binary.PutUvarint(b[at:at+size], uint64(n))
	return b
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	return appendVarint(b, field, protowire.EncodeBool(v))
}

func appendBytes[T string | []byte](b []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}
