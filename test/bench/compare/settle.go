package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// inFlight is how many callers wait for their answers when the leader is killed.
	inFlight = 256
	// inDoubtBudget is the prepare budget of transactions that are to abort.
	inDoubtBudget = 50 * time.Millisecond
	// roomInDoubt is how many more than those in doubt the nodes take.
	roomInDoubt = 10_000
	// askSettled is how often a node is asked whether it has settled everything.
	askSettled = 10 * time.Millisecond
)

// settleFigure is what a kill -9 of the leader did to the transactions under way.
type settleFigure struct {
	Kill int `json:"kill"`
	// Unfinished is how many there were, at least: callers that waited, or
	// transactions that a participant had not heard of.
	Unfinished int `json:"unfinished"`
	// InDoubt: the participant that had not heard went on with the kill.
	InDoubt bool `json:"in_doubt,omitempty"`
	// Answered is from the kill until every caller had its answer, Settled until
	// nothing was unfinished.
	Answered float64 `json:"answered_ms,omitempty"`
	Settled  float64 `json:"settled_ms"`
}

// strikeInFlight kills the leader while callers wait, who then send no more.
func (v *victim) strikeInFlight(ctx context.Context) (f settleFigure, err error) {
	if err := v.subject.aim(ctx); err != nil {
		return f, err
	}
	d := closed(ctx, v.subject, inFlight)
	pause(ctx, beforeKill)
	killed := time.Now()
	if err := v.kill(); err != nil {
		return f, err
	}
	d.stop()
	f = settleFigure{Unfinished: inFlight, Answered: milliseconds(time.Since(killed))}
	if n := d.failed.Load(); n > 0 {
		return f, fmt.Errorf("%d of %d callers were not answered: %w", n, inFlight, d.err)
	}
	err = v.settled(ctx)
	f.Settled = milliseconds(time.Since(killed))
	return f, errors.Join(err, v.revive(ctx))
}

// settled waits until the node that leads now has nothing unfinished.
func (c *cluster) settled(ctx context.Context, dead int) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	var leader *local.Node
	return untilEvery(ctx, askSettled, "nothing is unfinished after a kill", func(ctx context.Context) (bool, error) {
		if leader == nil {
			if leader = c.Leader(ctx); leader == nil || leader == c.Nodes[dead] {
				leader = nil
				return false, nil
			}
		}
		st, err := client.Status(ctx, leader.RPC)
		if err != nil || !st.GetReady() {
			leader = nil
			return false, err
		}
		return unfinishedOf(st) == 0, nil
	})
}

// killInDoubt kills the leader with many aborts under way that one participant
// has not heard of, because it is stopped, and lets that one go on at the same time.
func (r *result) killInDoubt(ctx context.Context, o options, dir string) (err error) {
	s, err := newSite(o, dir, "in-doubt")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	room := fmt.Sprint(o.inDoubt + roomInDoubt)
	s.serverArgs = []string{"--max-in-flight", room, "--max-undelivered", room, "--max-in-flight-bytes", fmt.Sprint(1 << 30)}
	c, err := s.startCluster(ctx)
	if err != nil {
		return err
	}
	beside, err := s.startIdle(ctx, c)
	if err != nil {
		return err
	}
	deaf := beside[len(beside)-1]
	if err := deaf.Pause(); err != nil {
		return err
	}
	if err := c.abortMany(ctx, o.inDoubt); err != nil {
		return err
	}
	if err := c.aim(ctx); err != nil { // so many may have cost a leader its place
		return err
	}
	n, err := c.unfinished(ctx)
	if err != nil {
		return err
	}
	if n < o.inDoubt {
		return fmt.Errorf("%d of %d transactions are unfinished", n, o.inDoubt)
	}
	killed := time.Now()
	if err := errors.Join(c.Nodes[c.leader].Kill(), deaf.Resume()); err != nil {
		return err
	}
	if err := c.settled(ctx, c.leader); err != nil {
		return err
	}
	f := settleFigure{Kill: 1, Unfinished: n, InDoubt: true, Settled: milliseconds(time.Since(killed))}
	r.Settles = append(r.Settles, f)
	fmt.Fprintf(os.Stderr, "%s %d transactions in doubt: settled %.0f ms after the kill\n", time.Now().Format("15:04:05"), f.Unfinished, f.Settled)
	return nil
}

// abortMany submits transactions that one participant does not vote on.
func (c *cluster) abortMany(ctx context.Context, n int) error {
	to := c.atLeader()
	d, going := newDrive(ctx, &subject{name: "aborts", one: func(ctx context.Context, caller int, number uint64) error {
		req := &pb.SubmitRequest{Branches: nothing(caller, number), Timeout: durationpb.New(inDoubtBudget)}
		result, err := to[caller/callersPerConnection%len(to)].Submit(ctx, req)
		if err == nil && result.GetOutcome() != pb.Outcome_ABORT {
			err = fmt.Errorf("came to %v though a participant does not vote", result.GetOutcome())
		}
		return err
	}})
	numbers := make(chan struct{}, n)
	for range n {
		numbers <- struct{}{}
	}
	close(numbers)
	for caller := range connections * callersPerConnection {
		d.wg.Go(func() {
			for range numbers {
				if _, ok := d.one(caller, time.Now()); !ok || going.Err() != nil {
					return
				}
			}
		})
	}
	d.wg.Wait()
	d.halt()
	return errors.Join(d.err, ctx.Err())
}
