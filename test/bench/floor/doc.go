// Package floor is what the coordinator is compared with: two-phase commit over
// bare hashicorp/raft with no features. It has no locks, deadlines, retries,
// limits, inquiries or recovery: a node that dies leaves transactions behind
// that nobody finishes. It is a bound to measure against, and nothing to use.
//
// Three nodes keep a log in raft-boltdb with its default options, so every entry
// is synced. A transaction is three commands: begin (128 bytes), the decision
// (32) and finish (24). What is proposed while an entry commits becomes the next
// one, at most 256 commands an entry, one entry outstanding. Two participants,
// processes of their own, are asked by unary gRPC calls, to prepare before the
// decision and to commit after it; the client is answered at the decision, also
// by a unary call.
//
// The same nodes offer Put, one command of 128 bytes and nothing else: raft
// Apply behind gRPC, which says what the log alone is able to do. Echo is a gRPC
// server that does nothing, which says what a call costs.
package floor
