// Package history judges what clients saw of a system: whether there is one
// order of all committed transactions, each at one moment between its call and
// its return, that explains every read (strict serializability).
//
// CheckLists does it for lists that are only appended to. A list shows its own
// past: whoever reads it sees which transactions wrote it, in which order. So
// the dependencies between transactions can be read off, and a cycle among them
// proves that no order exists; it names the anomaly and shows the cycle. It is
// sound: what it reports is wrong. It does not search, so a million
// transactions take seconds.
//
// CheckRegisters and CheckStates search (porcupine), so they are for short
// histories: single keys that are set and read, and the state of one
// transaction as the coordinator told it over time.
//
// A transaction whose outcome nobody knows may have happened or not, and makes
// every answer weaker: learn it by its id first. What is left unknown is
// reported, and whoever runs a test counts it as a failure. So is a search that
// did not come to an end.
package history
