package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// slowCall is when an unanswered call makes its link suspect.
	slowCall = time.Second
	// probeTimeout bounds one probe, probePause the time between two of a link
	// that is down: so a participant that listens again is found within 150 ms,
	// and one whose partition heals within a second.
	probeTimeout = 500 * time.Millisecond
	probePause   = 100 * time.Millisecond
)

// errDown is the answer of a link whose participant does not answer probes.
var errDown = errors.New("the participant does not answer")

// link is a leadership's way to one participant. Its endpoints share one set of
// data, so any of them may be asked; the one that answered last is preferred.
type link struct {
	name string
	log  hclog.Logger
	// up is called when the participant answers again after it was down.
	up func(name string)

	dial func(address string) (*rpc.Conn, error)
	// lookup reads the registry.
	lookup func(name string) []string
	// meters count the calls over it.
	meters *branchMeters

	mu        sync.Mutex
	endpoints []string  // as last looked up
	conn      *rpc.Conn // to endpoints[current]; nil: none yet
	closed    bool      // the leadership is over: there is no other connection
	current   int

	down atomic.Bool
	// twoPhases: it said that it knows no one phase, whatever the registry says.
	twoPhases atomic.Bool
	suspect   chan struct{} // 1-slot: the prober should look
	// active counts the flights with a branch here that do not wait for anybody
	// (limit ActiveAtOne); stuck counts the branches here that wait because a
	// call failed (limit Undelivered).
	active, stuck atomic.Int64
	// answered is when the participant last answered a call, as time since made.
	answered atomic.Int64
	made     time.Time
	calls    outgoing
}

func newLink(name string, dial func(string) (*rpc.Conn, error), lookup func(string) []string, log hclog.Logger, up func(string)) *link {
	return &link{
		name: name, dial: dial, lookup: lookup, log: log, up: up, made: time.Now(),
		suspect: make(chan struct{}, 1),
	}
}

// unreachable reports whether err says something of the way rather than of the call.
func unreachable(err error) bool {
	switch rpc.ReasonOf(err) {
	case rpc.ReasonConnectionLost, rpc.ReasonUnreachable, rpc.ReasonDeadline, rpc.ReasonShuttingDown, rpc.ReasonUnimplemented:
		return true
	}
	return false
}

func (k *link) doubt() {
	select {
	case k.suspect <- struct{}{}:
	default:
	}
}

func (k *link) connection() (*rpc.Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errDown
	}
	if k.conn != nil {
		return k.conn, nil
	}
	if len(k.endpoints) == 0 {
		k.endpoints, k.current = k.lookup(k.name), 0
	}
	if len(k.endpoints) == 0 {
		return nil, rpc.Errorf(rpc.ReasonUnreachable, "participant %s is not registered with any endpoint", k.name)
	}
	conn, err := k.dial(k.endpoints[k.current])
	if err != nil {
		return nil, err
	}
	k.conn = conn
	return conn, nil
}

// renew drops the connection and turns to the next endpoint, or to the first
// of those that the registry names since.
func (k *link) renew() {
	endpoints := k.lookup(k.name)
	k.mu.Lock()
	conn := k.conn
	k.conn = nil
	if slices.Equal(endpoints, k.endpoints) && len(endpoints) > 0 {
		k.current = (k.current + 1) % len(endpoints)
	} else {
		k.endpoints, k.current = endpoints, 0
	}
	k.mu.Unlock()
	closeConn(conn)
}

// close ends what is out and what waits; nothing is called any more.
func (k *link) close() {
	k.mu.Lock()
	conn := k.conn
	k.conn, k.closed = nil, true
	k.mu.Unlock()
	k.down.Store(true)
	k.turn()
	closeConn(conn)
}

// registered follows a change of the registry.
func (k *link) registered() {
	endpoints := k.lookup(k.name)
	k.mu.Lock()
	changed := !slices.Equal(endpoints, k.endpoints)
	k.mu.Unlock()
	k.twoPhases.Store(false)
	if changed {
		k.renew()
	}
	k.doubt()
}

func closeConn(conn *rpc.Conn) {
	if conn != nil {
		_ = conn.Close() // what was under way fails, and that is wanted
	}
}

// run probes the participant whenever a call made it suspect, until it answers.
func (k *link) run(ctx context.Context) {
	defer k.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.suspect:
		}
		for failed := 1; ; failed++ {
			err := k.probe(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			// A probe without an answer is noise on a busy machine, and to renew the
			// connection costs every call that is under way.
			if rpc.ReasonOf(err) == rpc.ReasonDeadline && (failed == 1 || k.answeredWithin(slowCall)) {
				continue
			}
			if k.down.CompareAndSwap(false, true) {
				k.log.Warn("participant does not answer; its branches wait", "participant", k.name, "error", err)
				k.turn() // those who wait for their turn
			}
			k.renew()
			pause(ctx, probePause)
		}
		if ctx.Err() != nil {
			return
		}
		if k.down.CompareAndSwap(true, false) {
			k.log.Info("participant answers again", "participant", k.name)
			k.up(k.name)
		}
	}
}

// answeredWithin reports whether a call was answered lately.
func (k *link) answeredWithin(d time.Duration) bool {
	at := k.answered.Load()
	return at > 0 && time.Since(k.made)-time.Duration(at) < d
}

// probe asks who is there; an error is one of the way.
func (k *link) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := k.connection()
	if err != nil {
		return err
	}
	_, err = pb.NewParticipantClient(conn).Describe(ctx, &pb.DescribeRequest{})
	if unreachable(err) {
		return err
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
