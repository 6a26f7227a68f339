// Package load is the clients of a chaos run: processes that submit
// transactions of several kinds, and that can be killed like any other.
//
// Every call is in a journal before it is sent, and every answer when it came,
// so that a killed client leaves an unknown outcome and nothing else. Replay
// joins the journals of all clients into histories that package history can
// judge. Times are those of the machine's monotonic clock, the same for all
// processes and unmoved by whoever sets the date.
//
// The kinds: transactions that append to and read lists at one to three
// participants; plain reads of lists; transfers between accounts, and audits
// that read all of them; sets and plain reads of single keys; and some whose
// state is looked at from all sides while they run.
package load
