package load

import (
	"encoding/json"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a call is.
type Kind string

// The kinds.
const (
	Lists    Kind = "lists"    // a transaction over lists
	Look     Kind = "look"     // a plain read of lists at one participant
	Transfer Kind = "transfer" // a transaction between two accounts
	Audit    Kind = "audit"    // a transaction that reads every account
	Set      Kind = "set"      // a transaction that sets one key
	Peek     Kind = "peek"     // a plain read of one key
	Stock    Kind = "stock"    // the transaction that fills the accounts at first
	Bulk     Kind = "bulk"     // a transaction that needs room on a participant's disk
)

// Plain reads are no transactions: they have no outcome to learn.
func (k Kind) plain() bool { return k == Look || k == Peek }

// Op is one operation at one participant.
type Op struct {
	Participant string `json:"p"`
	// Do is append, get, add or put.
	Do  string `json:"do"`
	Key string `json:"k"`
	// Value is what is appended, added or put.
	Value int64 `json:"v,omitempty"`
}

// Call is a call before it is sent.
type Call struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	At   int64  `json:"at"`
	Ops  []Op   `json:"ops"`
	// Since is what the call carries, to be repeated by whoever learns its outcome.
	Since   uint64 `json:"since,omitempty"`
	RetryOf string `json:"retry_of,omitempty"`
}

// Outcome of a call as its client saw it.
type Outcome string

// The outcomes. A refusal is definite: nothing has begun.
const (
	Commit  Outcome = "COMMIT"
	Abort   Outcome = "ABORT"
	Refused Outcome = "REFUSED"
	Unknown Outcome = "UNKNOWN"
)

// Answer is how a call ended.
type Answer struct {
	ID      string  `json:"id"`
	At      int64   `json:"at"`
	Outcome Outcome `json:"outcome"`
	// Why it is not a commit.
	Why string `json:"why,omitempty"`
	// Reads are the values found, in the order of the gets; not set if the
	// answer did not have them. A number is a list of one, nothing an empty one.
	Reads [][]int64 `json:"reads"`
	// OnePhase: it was committed in one phase (P17).
	OnePhase bool `json:"one_phase,omitempty"`

	source string // the journal that has it
}

// State is one look at the state of a transaction.
type State struct {
	ID     string `json:"id"`
	Call   int64  `json:"call"`
	Return int64  `json:"return"`
	State  string `json:"state"`
}

// line of a journal; one of them is set.
type line struct {
	Call   *Call   `json:"call,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
	State  *State  `json:"state,omitempty"`
}

// Journal is an append-only file of lines. Each is one write, so that it is
// there when the process is killed: the file is on no disk that meets faults.
type Journal struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

// OpenJournal opens or makes one.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Journal{file: f}, nil
}

func (j *Journal) write(l line) {
	b, err := json.Marshal(l)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.file.Write(append(b, '\n'))
	}
	if j.err == nil {
		j.err = err
	}
}

// Close closes the file and returns the first error that there was.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); j.err == nil {
		j.err = err
	}
	return j.err
}

// Now is the machine's monotonic clock, in nanoseconds.
func Now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return time.Now().UnixNano() // the clock is always there on the systems that run this
	}
	return t.Nano()
}
