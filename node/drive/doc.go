// Package drive is the protocol of one transaction as its leader runs it: a
// pure stepper. Events go in (a vote, an acknowledgement, a failed call, a
// command applied, the clock), effects come out (send this, propose that).
// It has no goroutine, clock, randomness or I/O; node carries its effects out.
//
// Fresh and resumed transactions take the same way (P9): New looks at the
// replicated record and goes on from there, whatever came before.
//
//	PREPARING   every branch is asked; one ABORTED, the deadline or a request to
//	            abort proposes Decide(ABORT), the last yes proposes Decide(COMMIT)
//	COMMITTING, ABORTING   every branch that owes is told, until it acknowledges (P8)
//	all acknowledged       Finish is proposed, lazily
package drive
