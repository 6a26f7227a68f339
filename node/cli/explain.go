package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newTxExplainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Tell what happened to a transaction, what it waits for and what can be done",
		Long: `Tell in words when a transaction began, who voted what, what it waits for, how
often that was tried and failed and why, when it is tried next, and what an
operator can do about it, as commands.

Exit status 1 if nothing is known of the id; what that means is told then too.`,
		Example: `  concordat tx explain booking-42
  concordat tx explain booking-42 -o json`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.unfinishedIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			t, err := c.Get(ctx, &pb.GetRequest{Id: args[0]})
			if rpc.ReasonOf(err) == rpc.ReasonNotFound {
				if err := out.explanation(explainUnknown(args[0])); err != nil {
					return err
				}
				return &statusError{exitError}
			}
			if err != nil {
				return err
			}
			registry := map[string]*pb.ParticipantInfo{}
			if !finished(t) {
				// Without the registry the story is the same but for who is reachable.
				all, _ := c.ListParticipants(ctx)
				for _, p := range all {
					registry[p.GetName()] = p
				}
			}
			return out.explanation(explain(t, registry, time.Now()))
		})
	}
	return cmd
}

// explanation is the story of a transaction.
type explanation struct {
	ID string `json:"id"`
	// State is that of the transaction, or UNKNOWN.
	State string `json:"state"`
	// Summary is the present state in a sentence.
	Summary  string    `json:"summary"`
	Timeline []moment  `json:"timeline"`
	Waiting  []waiting `json:"waiting"`
	Advice   []advice  `json:"advice"`
}

// moment is something that happened.
type moment struct {
	// Time is not set where it is not known by itself.
	Time *time.Time `json:"time,omitempty"`
	Text string     `json:"text"`
}

// waiting is a branch that has yet to vote or to acknowledge.
type waiting struct {
	Participant string `json:"participant"`
	// For is "vote" or "acknowledgement".
	For string `json:"for"`
	// Reachable is what the leader says; not set if it does not say it.
	Reachable *bool  `json:"reachable,omitempty"`
	Tries     uint32 `json:"tries"`
	LastError string `json:"last_error"`
	// NextTry is in how many seconds; not set if none is planned.
	NextTry *float64 `json:"next_try_seconds,omitempty"`
}

// advice is something that may be done.
type advice struct {
	Text string `json:"text"`
	// Command does it; empty if no command does.
	Command string `json:"command"`
}

func (o *output) explanation(e *explanation) error {
	return o.print(e, func(w io.Writer) error { return e.write(w) })
}

func (e *explanation) write(w io.Writer) error {
	p := func(format string, args ...any) {
		for i, a := range args {
			if s, ok := a.(string); ok {
				args[i] = printable(s)
			}
		}
		fmt.Fprintf(w, format+"\n", args...)
	}
	p("%s: %s", e.ID, e.Summary)
	if len(e.Timeline) > 0 {
		p("\nWhat happened")
		g := newGrid(w)
		for _, m := range e.Timeline {
			at := ""
			if m.Time != nil {
				at = m.Time.Local().Format("2006-01-02 15:04:05.000")
			}
			g.row("  "+at, m.Text)
		}
		if err := g.flush(); err != nil {
			return err
		}
	}
	if len(e.Waiting) > 0 {
		p("\nWhat it waits for")
		for _, m := range e.Waiting {
			p("  %s", m.text())
		}
	}
	if len(e.Advice) > 0 {
		p("\nWhat can be done")
		for _, a := range e.Advice {
			p("  %s", a.Text)
			if a.Command != "" {
				p("    %s", a.Command)
			}
		}
	}
	return nil
}

func (m waiting) text() string {
	text := fmt.Sprintf("the %s of %s", m.For, m.Participant)
	switch {
	case m.Tries == 1:
		text += ", called once"
	case m.Tries > 1:
		text += fmt.Sprintf(", called %d times", m.Tries)
	}
	if m.LastError != "" {
		text += "; the last call failed: " + m.LastError
	}
	switch {
	case m.NextTry != nil && *m.NextTry > 0:
		text += fmt.Sprintf("; called again in %s", durationText(time.Duration(*m.NextTry*float64(time.Second))))
	case m.NextTry != nil:
		text += "; called again now"
	}
	if m.Reachable != nil && !*m.Reachable {
		text += "; the leader cannot reach it"
	}
	return text
}
