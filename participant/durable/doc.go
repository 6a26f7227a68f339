// Package durable is the file of a resource manager that keeps its own journal:
// records in one bbolt file, what the protocol must remember of each id (Entry)
// beside what the resource manager adds to it, written by group commit to a log
// beside the file, and from there to its pages (checkpoint.go).
//
// One committer goroutine owns all writes: what arrives while it syncs shares
// the next sync, and nobody is answered before it.
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
//   - I1: bbolt shows a checkpoint to readers before it is synced. Nothing
//     that View shows is therefore ever the ground for a vote or an acknowledgement.
//   - I2: an apply function decides before it writes, so that one that fails leaves its batch alone.
//
// Threading: a File may be used concurrently.
package durable
