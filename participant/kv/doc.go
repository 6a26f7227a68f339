// Package kv is the embedded resource manager: a key-value store on bbolt that
// takes part in transactions. Keys are strings; values are strings, 64-bit
// integers and lists of them. The standard branch runs the operations of
// rpc/kvop; a service may bring its own branch function (Options.Handler) and
// work on the same store through Tx.
//
// Data and journal are in one file, so what a branch did and what the protocol
// must remember of it (P5, P6) are written in one transaction and one sync.
// One committer goroutine owns all writes: what arrives while it syncs shares
// the next sync (group commit), and nobody is answered before it.
//
// Isolation (P12, P13) is strict two-phase locking with shared and exclusive
// locks, held from Prepare to Commit or Rollback and restored from the journal
// before Open returns. Deadlock is prevented by wait-die; lock.go argues why
// that, and the way plain reads are served, can neither deadlock nor starve.
//
// Every stored value carries a CRC-32C over bucket, key and value, checked at
// every read and, for the whole file, at Open; a census of the records finds
// those that are missing or replaced by older ones. A record that fails, a file
// that is cut short, and the first error of a write or sync are final (P15):
// Options.Fatal is called with an error that names file, bucket and key, and
// by default ends the process.
//
// Invariants:
//
//   - I1: a lock is released only after the write that settles its branch is durable.
//   - I2: bbolt shows a new transaction to readers before it is synced. Nothing
//     read without a lock is therefore ever the ground for a PREPARED vote or an acknowledgement.
//   - I3: an apply function decides before it writes, so that one that fails leaves its batch alone.
//
// Threading: a Store may be used concurrently. The lock table's mutex is a
// leaf: nothing that waits for disk or network is done under it.
package kv
