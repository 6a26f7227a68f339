package conform

import (
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
)

// Process is the participant as a child of the suite.
type Process interface {
	// Start runs it; it is called first and after every Kill.
	Start() error
	// Kill ends it as kill -9 does, with all that it started, and returns when it is gone.
	Kill() error
	// Ended says how it ended by itself, with the last of what it said; nil while it runs.
	Ended() error
}

// Config says what to test and how.
type Config struct {
	// Endpoint is where the participant serves, host:port.
	Endpoint string
	// Name is the participant's name; empty: what Describe says.
	Name string
	// Incarnation is what its data must say; empty: what Describe says.
	Incarnation string
	// Listener is where the participant asks the cluster; Run closes it. nil:
	// checks of inquiries and forgetting are skipped.
	Listener net.Listener
	// Process is the participant; nil: it runs already, and checks that need a
	// crash are skipped.
	Process Process
	// Payload is a payload with {key} in it, which adds something to that key,
	// for a participant that does not speak the suite's own operations. Empty:
	// it does. With it, effects are not looked at.
	Payload string
	// Only picks checks by name; nil: all.
	Only *regexp.Regexp
	// Patience is how long to wait for what the participant does by itself: to
	// serve, to ask, to settle what it was answered. A Process has longer to
	// start. Default 10 s.
	Patience time.Duration
	// Silence is how long the cluster gives no answer to a branch in doubt,
	// which must outlast it. Default 3 s.
	Silence time.Duration
	// Progress, if set, is told every result as it comes, one at a time.
	Progress func(Result)
}

// keyMark stands for a key in Config.Payload.
const keyMark = "{key}"

const (
	defaultPatience = 10 * time.Second
	defaultSilence  = 3 * time.Second
	callTimeout     = 10 * time.Second
)

// validate fills in defaults and names what is wrong.
func (c *Config) validate() error {
	if err := rpc.CheckAddress("endpoint", c.Endpoint); err != nil {
		return err
	}
	if c.Name != "" {
		if err := fsm.CheckParticipant("name", c.Name); err != nil {
			return err
		}
	}
	if c.Payload != "" {
		if err := checkTemplate(c.Payload); err != nil {
			return err
		}
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	for field, d := range map[string]time.Duration{"patience": c.Patience, "silence": c.Silence} {
		if d < 100*time.Millisecond || d > 10*time.Minute {
			return rpc.FieldErrorf(field, "100 ms to 10 min", "%s", d)
		}
	}
	if c.Only != nil && len(c.chosen()) == 0 {
		return rpc.FieldErrorf("run", "an expression that fits the name of a check", "%q, which fits none", c.Only)
	}
	return nil
}

func (c *Config) chosen() []check {
	var list []check
	for _, one := range checks() {
		if c.Only == nil || c.Only.MatchString(one.Name) {
			list = append(list, one)
		}
	}
	return list
}

// missing says why a check cannot be made; empty if it can.
func (s *session) missing(one check) string {
	switch c := s.cfg; {
	case one.needs&crash != 0 && c.Process == nil:
		return "needs the participant's command after --, to kill and restart it"
	case one.needs&ask != 0 && c.Listener == nil:
		return "needs --serve: the address that the participant asks as its cluster"
	case one.needs&effects != 0 && c.Payload != "":
		return "effects cannot be read with a payload of the participant's own"
	case one.needs&onePhase != 0 && !s.onePhase:
		return "Describe does not say one_phase: it is never called so"
	}
	return ""
}

// unseen says what of a check that passed was not looked at.
func (c *Config) unseen() string {
	if c.Payload == "" {
		return ""
	}
	return fmt.Sprintf("answers only: the effects of %s were not looked at", "the participant's own payload")
}
