// Package http is the resource manager for services in any language: it turns
// a branch into try, confirm and cancel over HTTP (TCC). A service reserves in
// try, and makes the reservation final or gives it back when it is told.
//
// The Manager is the barrier that such services need otherwise. Its journal
// says, before a try leaves, that the service may hold a reservation: so a
// crash in the midst of it ends in a cancel, not in a reservation that nobody
// remembers. What the service never sees: a cancel of a branch whose try was
// not sent, a try of a branch that was cancelled, a second try of one that was
// answered, a confirm or cancel that was answered. What it may see is the same
// call again, under the same key, when the answer to the first was lost.
//
// The life of a reservation, each arrow one durable write:
//
//	(nothing) ─▶ open ─ try ─▶ held ─ confirm ─▶ committed
//	               │            │
//	               │            ▼
//	               └────────▶ open, cancelled ─ cancel ─▶ refused
//
// Invariants:
//
//   - I1: no try leaves before its key is durable as open; no try leaves under a
//     key that was marked as cancelled, and no cancel leaves before it is marked.
//   - I2: PREPARED is voted only after 200 to that very try, in the write that makes it held.
//   - I3: a key that is open is cancelled until the service has answered, by the
//     decision or, when none comes, by the Manager itself: it never promised anything.
//
// Threading: a Manager may be used concurrently. Calls for one id are made one
// after the other, the Manager's own ones among them.
package http
