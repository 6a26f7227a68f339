package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// Limits of a Config. They keep the load within what one process can make
// honestly, and its memory within some hundred MiB.
const (
	MaxConcurrency = 4096
	MaxRate        = 100_000.0
	MaxBacklog     = 1_000_000
	MaxKeys        = 1_000_000
	MaxSkew        = 5.0
	MaxDuration    = 24 * time.Hour
	MinDuration    = 100 * time.Millisecond
	MaxWarmup      = time.Hour
	MaxDeadline    = 10 * time.Minute
)

// How the operations of an open loop are spaced.
const (
	Poisson = "poisson" // independent of each other, as many users are
	Even    = "even"    // all the same distance apart
)

// Config says what load to make.
type Config struct {
	// Nodes are the addresses, host:port, of some or all nodes.
	Nodes []string
	// Participants to use, all of kind kv; empty: every one that is active.
	Participants []string
	// Branches of a transaction, each at another participant.
	Branches int
	// Concurrency is how many operations may be under way: in a closed loop
	// always as many as that.
	Concurrency int
	// Rate is that of an open loop, in operations a second; 0 is a closed loop.
	Rate float64
	// Arrivals is Poisson or Even.
	Arrivals string
	// Backlog is how many operations of an open loop may be due and not sent.
	Backlog int
	// Warmup comes first and is not measured; Duration is what is measured.
	Warmup, Duration time.Duration
	// Payload is the size of the value that each branch puts, in bytes; 0 puts none.
	Payload int
	// ReadShare of the operations are plain reads, 0 to 1.
	ReadShare float64
	// Keys is how many keys there are in each participant.
	Keys int
	// Skew is the s of a Zipf distribution over the keys; 0 is uniform.
	Skew float64
	// Wait is what a transaction's answer waits for.
	Wait pb.Wait
	// Timeout is the prepare budget of a transaction; Deadline how long its
	// caller waits for the answer.
	Timeout, Deadline time.Duration
	// NoRetry counts a CONFLICT as an abort instead of trying again.
	NoRetry bool
	// Seed makes the sequence of operations.
	Seed uint64
	// Keep leaves the keys where they are.
	Keep bool
	// Stage, if set, is told what begins now; Progress, if set, is told once a
	// second how the load goes. They are called from one goroutine at a time.
	Stage    func(string)
	Progress func(Progress)
}

// Open reports whether the load is an open loop.
func (c Config) Open() bool { return c.Rate > 0 }

// Validate checks every field; nothing is sent. An error is a *fsm.FieldError
// whose Field is the name of the command's flag.
func (c Config) Validate() error {
	checks := []error{
		between("branches", c.Branches, 1, fsm.MaxBranches),
		between("concurrency", c.Concurrency, 1, MaxConcurrency),
		inRange("rate", "0 (a closed loop) to "+number(MaxRate), c.Rate, 0, MaxRate),
		oneOf("arrivals", c.Arrivals, Poisson, Even),
		between("backlog", c.Backlog, 1, MaxBacklog),
		span("warmup", c.Warmup, 0, MaxWarmup),
		span("duration", c.Duration, MinDuration, MaxDuration),
		between("payload", c.Payload, 0, kvop.MaxValueBytes),
		inRange("read-share", "0 to 1", c.ReadShare, 0, 1),
		between("keys", c.Keys, 1, MaxKeys),
		inRange("skew", limitSkew, c.Skew, 0, MaxSkew),
		span("timeout", c.Timeout, fsm.MinTimeout, fsm.MaxTimeout),
		span("deadline", c.Deadline, fsm.MinTimeout, MaxDeadline),
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	if c.Wait != pb.Wait_DECIDED && c.Wait != pb.Wait_COMPLETED {
		return &fsm.FieldError{Field: "wait", Limit: "decided or completed", Got: c.Wait.String()}
	}
	if err := c.checkNames(); err != nil {
		return err
	}
	return c.checkSize()
}

func (c Config) checkNames() error {
	for i, name := range c.Participants {
		if err := fsm.CheckParticipant("participants", name); err != nil {
			return err
		}
		if slices.Contains(c.Participants[:i], name) {
			return &fsm.FieldError{Field: "participants", Limit: "each name once", Got: name + " twice"}
		}
	}
	if n := len(c.Participants); n > 0 && n < c.Branches {
		return &fsm.FieldError{
			Field: "branches", Limit: fmt.Sprintf("at most the %d of --participants", n), Got: strconv.Itoa(c.Branches),
		}
	}
	return nil
}

// checkSize checks the payload of a transaction as it will be sent.
func (c Config) checkSize() error {
	size := len(newData(strings.Repeat("x", 2*markBytes), c, nil).payload(c.Keys-1, 0))
	if size > fsm.MaxPayloadBytes || size*c.Branches > fsm.MaxTransactionBytes {
		return &fsm.FieldError{
			Field: "payload",
			Limit: fmt.Sprintf("%d branches of at most %d bytes of payload, %d together, all counted", c.Branches,
				fsm.MaxPayloadBytes, fsm.MaxTransactionBytes),
			Got: fmt.Sprintf("%d bytes a branch", size),
		}
	}
	return nil
}

func between(field string, n, low, high int) error {
	if n < low || n > high {
		return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("%d to %d", low, high), Got: strconv.Itoa(n)}
	}
	return nil
}

func inRange(field, limit string, v, low, high float64) error {
	if math.IsNaN(v) || v < low || v > high {
		return &fsm.FieldError{Field: field, Limit: limit, Got: number(v)}
	}
	return nil
}

func span(field string, d, low, high time.Duration) error {
	if d < low || d > high {
		return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("%s to %s", low, high), Got: d.String()}
	}
	return nil
}

func oneOf(field, s string, words ...string) error {
	if !slices.Contains(words, s) {
		return &fsm.FieldError{Field: field, Limit: words[0] + " or " + words[1], Got: strconv.Quote(strictjson.Clip(s))}
	}
	return nil
}

const limitSkew = "uniform, or the s of a Zipf distribution from 0.01 to 5"

// ParseSkew reads "uniform" (0) or the s of a Zipf distribution. An error is a
// *fsm.FieldError.
func ParseSkew(text string) (float64, error) {
	if text == "uniform" {
		return 0, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(s) || s < 0.01 || s > MaxSkew {
		return 0, &fsm.FieldError{Field: "skew", Limit: limitSkew, Got: strconv.Quote(strictjson.Clip(text))}
	}
	return s, nil
}

// number is v without an exponent.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
