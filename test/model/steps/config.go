package steps

import (
	"io"
	"time"
)

// Profile is what a run's world is like.
type Profile uint8

// The profiles.
const (
	// Standard: every fault of machines and network, few votes no.
	Standard Profile = iota
	// Calm: the same faults, but nothing that may abort a transaction: no vote
	// no, no conflict, no deadline, no client that gives up. Nothing may abort.
	Calm
	// Rough: votes no, conflicts, heuristics, give-ups, removed participants,
	// ids used again.
	Rough
	// Quiet: Standard at a tenth of the pace, so that an hour takes moments: what
	// is kept, forgotten and asked for grows old.
	Quiet
	profiles
)

var profileNames = [...]string{"standard", "calm", "rough", "quiet"}

func (p Profile) String() string { return profileNames[p] }

// Config is one run.
type Config struct {
	Seed    uint64
	Steps   int // of the phase with faults
	Profile Profile
	Bug     Bug
	// Trace takes a line for each event; nil: none is written.
	Trace io.Writer
}

// The world's size.
const (
	nodeCount   = 3
	partyCount  = 3
	clientCount = 12
	poolIDs     = 6 // ids that are used again and again
	maxHealing  = 400_000
)

// odds are a profile's chances, in 1/10,000.
type odds struct {
	lose, double, delay int // a message
	diskError           int // a write
	refuse              int // an entry, by the log itself
	no, readOnly        int // a branch
	reuse               int // a transaction takes an id of the pool
	withoutSince        int // a transaction of a pool's id is submitted without since
	abort, die          int // a client's transaction
	keep                int // finished transactions in the state, at most
	keys                int // keys a participant has, fewer conflict more
	timeout             time.Duration
	rest                time.Duration // of a client between two transactions, at most
	hurry               bool          // half of the transactions have 300 ms only
	fault               time.Duration // mean time between faults
	operator            time.Duration // mean time between an operator's acts; 0: none
}

func (p Profile) odds() odds {
	o := odds{
		lose: 100, double: 300, delay: 200, diskError: 20, refuse: 50, no: 100, readOnly: 800, reuse: 1500, withoutSince: 5000, abort: 150, die: 150,
		keep: 150, keys: 300, timeout: 5 * time.Second, fault: 300 * time.Millisecond, operator: 4 * time.Second,
		rest: 4 * time.Millisecond,
	}
	switch p {
	case Calm:
		o.no, o.abort, o.reuse, o.keys, o.timeout, o.operator = 0, 0, 0, 0, time.Minute, 0
	case Rough:
		o.no, o.reuse, o.abort, o.die, o.keys, o.keep = 500, 6000, 600, 600, 40, 15
		o.hurry, o.fault, o.operator = true, 150*time.Millisecond, 300*time.Millisecond
	case Quiet:
		o.rest, o.fault, o.operator = 20*time.Second, 3*time.Second, 40*time.Second
	}
	return o
}
