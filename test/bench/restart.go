package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const (
	restartWorst = 250.0 // ms
	// restartClients load the cluster until the kill.
	restartClients = 64
	// budgetOver is a little more than the default prepare budget: after it,
	// everything is decided.
	budgetOver = 6 * time.Second
)

// restart kills a participant in the middle of a load and starts it again:
// every other time at once, and every other time when all of its transactions
// are decided. A kill that found nothing prepared is not counted.
func restart(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "restart", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	want := pick(b, 10, 3)
	var listened, answered []float64
	held := 0
	for try := 0; len(listened) < want; try++ {
		if try == 4*want {
			return fmt.Errorf("only %d of %d kills found a prepared branch", len(listened), try)
		}
		r, err := s.restartParticipant(ctx, "payments", try%2 == 1)
		if err != nil {
			return err
		}
		b.logf("restart: payments came back with %d prepared, settled %s after it listened, %s after its first answer", r.held,
			r.sinceListening.Round(time.Millisecond), r.sinceAnswer.Round(time.Millisecond))
		if r.held == 0 {
			continue
		}
		held += r.held
		listened = append(listened, float64(r.sinceListening.Microseconds())/1000)
		answered = append(answered, float64(r.sinceAnswer.Microseconds())/1000)
	}
	n := len(listened)
	b.report.below(restartWorst, figure{
		Experiment: "restart", Name: "listening to settled, worst", Value: slices.Max(listened), Unit: "ms", Samples: n,
		Note: fmt.Sprintf("%d branches were prepared in all", held),
	})
	b.report.tell("restart", "listening to settled, median", median(listened), "ms", n, "")
	b.report.tell("restart", "first answer to settled, worst", slices.Max(answered), "ms", n, "")
	return nil
}

// restarted is what one kill and start of a participant came to.
type restarted struct {
	held                        int
	sinceListening, sinceAnswer time.Duration
}

func (s *stage) restartParticipant(ctx context.Context, name string, whenDecided bool) (r restarted, err error) {
	p := s.Participants[name]
	l := newLoad(s.clients, "accounts", name)
	run := l.closed(ctx, restartClients)
	sleep(ctx, time.Second)
	err = p.Kill()
	run.halt() // its calls go on: they wait for the participant
	defer run.stop()
	if err != nil {
		return r, err
	}
	if whenDecided {
		sleep(ctx, budgetOver)
	}
	seen, err := os.Stat(p.Log)
	if err != nil {
		return r, err
	}
	if err := p.Start(); err != nil {
		return r, err
	}
	listened, err := listening(ctx, p.Endpoint)
	if err != nil {
		return r, err
	}
	answered, done, err := settled(ctx, p.Endpoint, 30*time.Second)
	if err != nil {
		return r, err
	}
	r.sinceListening, r.sinceAnswer = done.Sub(listened), done.Sub(answered)
	if r.held, err = heldAtStart(p.Log, seen.Size()); err != nil {
		return r, err
	}
	return r, s.drained(ctx, 30*time.Second)
}

var heldLine = regexp.MustCompile(`prepared branches are in doubt.* branches=(\d+)`)

// heldAtStart is how many prepared branches a participant found in its data,
// by its own log from offset on; it says nothing if there were none. Its
// answers cannot tell, because it may be settled before the first of them.
func heldAtStart(log string, offset int64) (int, error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	if m := heldLine.FindSubmatch(b[offset:]); m != nil {
		return strconv.Atoi(string(m[1]))
	}
	return 0, nil
}
