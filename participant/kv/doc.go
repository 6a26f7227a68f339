// Package kv is the embedded resource manager: a key-value store on bbolt that
// takes part in transactions. Keys are strings; values are strings, 64-bit
// integers and lists of them. The standard branch runs the operations of
// rpc/kvop; a service may bring its own branch function (Options.Handler) and
// work on the same store through Tx.
//
// Data and journal are in one file (package durable), so what a branch did and
// what the protocol must remember of it (P5, P6) are written in one transaction
// and one sync, which it shares with what arrives meanwhile.
//
// Isolation (P12, P13) is strict two-phase locking with shared and exclusive
// locks, held from Prepare to Commit or Rollback and restored from the journal
// before Open returns. Deadlock is prevented by wait-die; lock.go argues why
// that, and the way plain reads are served, can neither deadlock nor starve.
//
// Invariants:
//
//   - I1: a lock is released only after the write that settles its branch is durable.
//   - I2: a read may see what is not synced yet. Nothing
//     read without a lock is therefore ever the ground for a PREPARED vote or an acknowledgement.
//
// Threading: a Store may be used concurrently. The lock table's mutex is a
// leaf: nothing that waits for disk or network is done under it.
package kv
