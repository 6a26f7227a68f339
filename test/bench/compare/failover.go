package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	// killRate is how many operations a second are due while a leader is killed.
	killRate = 500
	// beforeKill and afterAnswer are how much of it is kept.
	beforeKill, afterAnswer = 500 * time.Millisecond, 500 * time.Millisecond
	// answerWithin is how long a cluster may take until it answers again.
	answerWithin = 30 * time.Second
	// bucket is the grain of the timeline, which ends timelineEnd after the kill.
	bucket      = 20 * time.Millisecond
	timelineEnd = 3 * time.Second
	// caughtUpLag is how many entries a node that was started again may lack still.
	caughtUpLag = 64
)

// killFigure is what a kill -9 of the leader did.
type killFigure struct {
	System string `json:"system"`
	Kill   int    `json:"kill"`
	// First is from the kill until an operation was answered that was due after it.
	First float64 `json:"first_ms"`
	// Timeline is how many were answered, in buckets from beforeKill on.
	Timeline []int `json:"timeline"`
}

// victim is a cluster whose leader is killed, again and again.
type victim struct {
	subject *subject
	// kill ends the leader; revive starts it again and waits until it keeps up.
	kill   func() error
	revive func(context.Context) error
	// settled waits, after a kill, until nothing is unfinished; nil: it is not measured.
	settled func(context.Context) error
}

// killLeaders kills the leaders of both systems in turn.
func (r *result) killLeaders(ctx context.Context, o options, dir string) (err error) {
	var victims []*victim
	for _, start := range []func(*site, context.Context) (*victim, error){(*site).concordatVictim, (*site).etcdVictim} {
		s, err := newSite(o, dir, fmt.Sprintf("kills-%d", len(victims)+1))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		v, err := start(s, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.dir, err)
		}
		victims = append(victims, v)
	}
	return r.strikeAll(ctx, o, victims)
}

func (r *result) strikeAll(ctx context.Context, o options, victims []*victim) error {
	for n := range o.kills {
		for _, v := range victims {
			f, err := v.strike(ctx)
			if err != nil {
				return fmt.Errorf("kill %d of %s: %w", n+1, v.subject.name, err)
			}
			f.Kill = n + 1
			r.Kills = append(r.Kills, f)
			fmt.Fprintf(os.Stderr, "%s kill %d, %s: answers again after %.0f ms\n", time.Now().Format("15:04:05"), f.Kill, f.System, f.First)
			if v.settled == nil {
				continue
			}
			s, err := v.strikeInFlight(ctx)
			if err != nil {
				return fmt.Errorf("kill %d of %s with %d in flight: %w", n+1, v.subject.name, inFlight, err)
			}
			s.Kill = n + 1
			r.Settles = append(r.Settles, s)
			fmt.Fprintf(os.Stderr, "%s kill %d, %s, %d in flight: answered after %.0f ms, settled after %.0f ms\n",
				time.Now().Format("15:04:05"), s.Kill, v.subject.name, inFlight, s.Answered, s.Settled)
		}
	}
	return nil
}

// strike kills the leader under load.
func (v *victim) strike(ctx context.Context) (f killFigure, err error) {
	if err := v.subject.aim(ctx); err != nil {
		return f, err
	}
	d := open(ctx, v.subject, killRate)
	defer d.stop()
	pause(ctx, beforeKill)
	killed := time.Since(d.began)
	if err := v.kill(); err != nil {
		return f, err
	}
	waiting, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err = until(waiting, "something is answered that was due after the kill", func(context.Context) (bool, error) {
		return d.firstAfter(killed) > 0, nil
	})
	if err != nil {
		return f, err
	}
	pause(ctx, afterAnswer)
	d.stop()
	f = killFigure{System: v.subject.name, First: milliseconds(d.firstAfter(killed)), Timeline: d.timeline(killed)}
	return f, v.revive(ctx)
}

// firstAfter is how long after a moment the first operation was answered that
// was due then or later; 0: none yet.
func (d *drive) firstAfter(at time.Duration) (first time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.samples {
		if s.ended-s.took >= at && (first == 0 || s.ended-at < first) {
			first = s.ended - at
		}
	}
	return first
}

// timeline counts answers in buckets around a moment.
func (d *drive) timeline(at time.Duration) []int {
	counts := make([]int, (beforeKill+timelineEnd)/bucket)
	for _, s := range d.samples {
		if i := int((s.ended - at + beforeKill) / bucket); s.ended-at >= -beforeKill && i < len(counts) {
			counts[i]++
		}
	}
	return counts
}

// concordatVictim is three nodes, and clients that know all of them.
func (s *site) concordatVictim(ctx context.Context) (*victim, error) {
	c, err := s.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.startIdle(ctx, c); err != nil {
		return nil, err
	}
	var clients []*rpc.Client
	for range connections {
		client, err := c.Client()
		if err != nil {
			return nil, err
		}
		s.atEnd(client.Close)
		clients = append(clients, client)
	}
	return &victim{
		subject: &subject{name: "concordat", one: transactions(func() []*rpc.Client { return clients }, nothing), aim: c.aim},
		kill:    func() error { return c.Nodes[c.leader].Kill() },
		settled: func(ctx context.Context) error { return c.settled(ctx, c.leader) },
		revive: func(ctx context.Context) error {
			dead := c.Nodes[c.leader]
			if err := dead.Start(); err != nil {
				return err
			}
			return until(ctx, dead.ID+" has caught up", func(ctx context.Context) (bool, error) {
				leader := c.Leader(ctx)
				if leader == nil {
					return false, nil
				}
				newest, err1 := clients[0].Status(ctx, leader.RPC)
				own, err2 := clients[0].Status(ctx, dead.RPC)
				return own.GetAppliedIndex()+caughtUpLag >= newest.GetAppliedIndex(), errors.Join(err1, err2)
			})
		},
	}, nil
}

// etcdVictim is three members, and a client that tries them in turn.
func (s *site) etcdVictim(ctx context.Context) (*victim, error) {
	e, err := s.startMembers(ctx)
	if err != nil {
		return nil, err
	}
	return &victim{
		subject: &subject{name: "etcd", one: e.anywhere, aim: e.aim},
		kill: func() error {
			e.members[e.leader].kill()
			return nil
		},
		revive: func(ctx context.Context) error {
			dead := e.members[e.leader]
			if err := dead.start(); err != nil {
				return err
			}
			return until(ctx, "the member of etcd takes puts again", func(ctx context.Context) (bool, error) {
				err := e.put(ctx, dead.conns[0], 0)
				return err == nil, err
			})
		},
	}, nil
}

// tryFor is how long one member may take before another one is asked.
const tryFor = time.Second

// anywhere is a put at any member that takes it.
func (e *etcd) anywhere(ctx context.Context, caller int, number uint64) error {
	for try := uint64(0); ; try++ {
		m := e.members[(number+try)%uint64(len(e.members))]
		within, cancel := context.WithTimeout(ctx, tryFor)
		err := e.put(within, m.conns[caller/callersPerConnection%len(m.conns)], number)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, errorPause)
	}
}
