package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/local"
)

const (
	// killSpacing is the least load for each part between two kills: time to
	// fail over, to come back and to catch up.
	killSpacing = 2 * time.Second
	// firstKill is when the first kill of a load without an end comes, and the
	// time between two.
	firstKill                        = 6 * time.Second
	maxClients, maxRate, maxDuration = 256, 10_000, time.Hour
)

// LongestView is how long a load lasts that ends with a key.
const LongestView = 10 * time.Minute

// Target is what a kill is for.
type Target string

// The targets of kills. Nobody stands alone.
const (
	KillLeader      Target = "leader"
	KillFollower    Target = "follower"
	KillParticipant Target = "participant"
	KillDatabase    Target = "database"
	KillNobody      Target = "none"
)

// phrase is a target in a sentence: there is one leader, and several of the others.
func (t Target) phrase() string {
	if t == KillLeader {
		return "the leader"
	}
	return "a " + string(t)
}

// Terminal is where a demo is watched and steered.
type Terminal struct {
	In, Out *os.File
	// UntilKey: the load ends with a key, or after Duration.
	UntilKey bool
}

// Config says what to run.
type Config struct {
	// Binary is the concordat program.
	Binary string
	// Dir takes all data and logs: a new or empty directory that stays. Empty:
	// a temporary one, which Close removes.
	Dir string
	// Clients book at the same moment, 1 to 256.
	Clients int
	// Rate is how many bookings are made a second, whether or not the earlier
	// ones are answered; their latency counts from when each was due. 0: each
	// client makes its next when the last is answered.
	Rate int
	// Duration of the load, at least 2 s for each part before, between and after kills.
	Duration time.Duration
	// Kills is how many there are, spread over the load; they take turns over Kill,
	// which is the leader if nothing else is said.
	Kills int
	Kill  []Target
	// Databases has seats in a private PostgreSQL server and payments in a private
	// MariaDB server, whose programs are in PostgresBin and MariaDBBin, or, where
	// that is empty, where they usually are.
	Databases               bool
	PostgresBin, MariaDBBin string
	// Keep lets Keep be called at the end, after which the cluster goes on.
	Keep bool
	// Falsify removes one booking's marker from seats after the load, in a
	// transaction of its own: a test of the audit, which must name the booking.
	Falsify bool
	// Screen shows what happens while it happens; Colour says that it takes ANSI colours.
	Screen io.Writer
	Colour bool
	// Terminal shows a live view of the load, over all of the screen. Nil: lines on Screen.
	Terminal *Terminal
}

// Check names the first field that makes no sense, by its flag; its error is a *fsm.FieldError.
func (c *Config) Check() error {
	field := func(name, limit, format string, got any) error {
		return &fsm.FieldError{Field: name, Limit: limit, Got: fmt.Sprintf(format, got)}
	}
	known, all := []Target{KillLeader, KillFollower, KillParticipant}, "leader, follower and participant, or none alone"
	if c.Databases {
		known, all = append(known, KillDatabase), "leader, follower, participant and database, or none alone"
	}
	switch {
	case !c.Databases && c.PostgresBin+c.MariaDBBin != "":
		return field("--postgres-bin and --mariadb-bin", "with --databases", "%s", "no --databases")
	case c.Clients < 1 || c.Clients > maxClients:
		return field("--clients", fmt.Sprintf("1 to %d", maxClients), "%d", c.Clients)
	case c.Rate < 0 || c.Rate > maxRate:
		return field("--rate", fmt.Sprintf("0 (as fast as it goes) to %d bookings a second", maxRate), "%d", c.Rate)
	case c.Kills < 0:
		return field("--kills", "at least 0", "%d", c.Kills)
	case c.Duration < killSpacing || c.Duration > maxDuration:
		return field("--duration", "2s to 1h", "%s", c.Duration)
	case c.Duration/time.Duration(c.Kills+1) < killSpacing:
		return field("--kills", fmt.Sprintf("at most %d in a --duration of %s", c.Duration/killSpacing-1, c.Duration), "%d", c.Kills)
	}
	if slices.Equal(c.Kill, []Target{KillNobody}) {
		if c.Kills > 0 {
			return field("--kills", "0 with --kill none", "%d", c.Kills)
		}
		return nil
	}
	for _, t := range c.Kill {
		if !slices.Contains(known, t) {
			return field("--kill", all, "%q", t)
		}
	}
	return nil
}

func (c *Config) defaults() {
	if len(c.Kill) == 0 {
		c.Kill = []Target{KillLeader}
	}
}

// victim is what the i-th kill is for.
func (c *Config) victim(i int) Target { return c.Kill[i%len(c.Kill)] }

// untilKey: the load has no end of its own that matters.
func (c *Config) untilKey() bool { return c.Terminal != nil && c.Terminal.UntilKey }

// part is the time before and between kills.
func (c *Config) part() time.Duration {
	part := c.Duration / time.Duration(c.Kills+1)
	if c.untilKey() {
		part = min(part, firstKill)
	}
	return part
}

// downtime is how long a killed process stays down.
func (c *Config) downtime() time.Duration {
	if c.Terminal != nil {
		return watchedDowntime
	}
	return min(downtime, c.part()/2)
}

// relayed: relays are needed to cut processes off, which is done by a key, and
// end with this process, which a cluster that is kept must not.
func (c *Config) relayed() bool { return c.Terminal != nil && !c.Keep && local.CanCut() }

// describe is the load in words.
func (c *Config) describe() string {
	text := counted(c.Clients, "client", "clients")
	if c.Rate > 0 {
		text += fmt.Sprintf(", %s a second", counted(c.Rate, "booking", "bookings"))
	}
	if !c.untilKey() {
		text += fmt.Sprintf(", %s of load", c.Duration)
	}
	var what []string
	for i, t := range c.Kill {
		if t == KillDatabase && i > 0 && c.Kill[i-1] == t {
			continue // the other one
		}
		what = append(what, string(t))
	}
	if c.Kills == 0 {
		return text + ", no kill"
	}
	return text + ", " + counted(c.Kills, "kill", "kills") + " (" + strings.Join(what, ", ") + ")"
}
