// Package fsm is the replicated state machine: the whole truth about every
// transaction, participant and node address that the cluster has agreed on.
//
// It is pure. Machine.Apply takes the next log entry and nothing else: no
// clock, no randomness, no goroutine, no I/O, no map order reaches state,
// results or bytes (a test enforces that). What depends on time or chance is
// decided by the leader and stands in the command.
//
// Invariants, cited in panics and tests:
//
//	I1  A decision, once applied, never changes (P4).
//	I2  An attempt begins at most once, in an entry of its own term (P3).
//	I3  A transaction is COMMITTING or COMMITTED only if every branch voted PREPARED or READ_ONLY; in one
//	    phase it is decided only as its participant has decided (P17).
//	I4  A transaction finishes only when no branch owes an acknowledgement (P8).
//	I5  A *Txn, once stored, is never written again; a transition stores a new one.
//
// A Machine is not safe for concurrent use; cluster guards it. A Snapshot is
// immutable and may be read beside later Applies.
package fsm
