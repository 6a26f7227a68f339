// Package node is one coordinator process: it admits transactions, forwards
// them to the leader, and, where it leads, drives them through two-phase
// commit. The protocol of one transaction is in node/drive, pure; this
// package carries its effects out.
//
// A transaction's way: Submit (submit.go) → leader.submit → flight.run
// (flight.go) proposes Begin → drive decides what to send and propose → link
// (link.go) calls the participants → Decide is applied → the waiting callers
// are answered → every branch acknowledges → Finish. A failover enters the
// same line at the driver (lead.go).
//
// Threading: a leadership owns its flights, links and loops, and joins them
// all before the next may start. Locks are never held over a call or a
// proposal.
package node
