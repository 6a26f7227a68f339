package conform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// clusterPrefix marks data that belong to the suite, so that they may be used again.
	clusterPrefix = "conform-"
	// firstGeneration leaves an older one to test with.
	firstGeneration = 2
	// pollEvery paces looks at a condition that the participant brings about.
	pollEvery = 20 * time.Millisecond
	// startPatience is for a child of the suite: that it ends is seen at once,
	// so there is no reason to hurry a slow machine.
	startPatience = 30 * time.Second
)

// session is one run: the connection, and what the cluster that is acted knows.
type session struct {
	cfg    Config
	conn   *rpc.Conn
	client pb.ParticipantClient
	desk   *desk

	name, kind, clusterID, incarnation string
	generation                         uint32
	onePhase                           bool
	run                                string // makes ids and keys of this run its own

	reviving sync.Mutex // held while the participant is started again

	mu       sync.Mutex // guards all below
	term     uint64
	sequence uint64
	made     int // ids and keys made
}

// termNow is the term that messages carry.
func (s *session) termNow() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term
}

// nextTerm is what a new leader does: attempts begin anew.
func (s *session) nextTerm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term++
	s.sequence = 0
}

// nextGeneration is what a restore from a backup does.
func (s *session) nextGeneration() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.term++
	s.sequence = 0
}

// nextAttempt is newer than every one before.
func (s *session) nextAttempt() rpc.Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	return rpc.Attempt{Generation: s.generation, Term: s.term, Sequence: s.sequence}
}

// unique is a name that nothing else of this or an earlier run has.
func (s *session) unique(what string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	return fmt.Sprintf("%s-%s-%d", what, s.run, s.made)
}

// open starts the participant, if it is the suite's to start, and finds out who it is.
func open(ctx context.Context, cfg Config) (_ *session, err error) {
	conn, err := rpc.Dial(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, conn: conn, client: pb.NewParticipantClient(conn), name: cfg.Name}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	s.run = hex.EncodeToString(random[:])
	if cfg.Process != nil {
		if d, err := s.describe(ctx); err == nil {
			return nil, fmt.Errorf("participant %q serves %s already: stop it, or leave the command away", d.GetName(), cfg.Endpoint)
		}
		if err := cfg.Process.Start(); err != nil {
			return nil, fmt.Errorf("start the participant: %w", err)
		}
	}
	s.desk = newDesk(s)
	return s, nil
}

// meet waits for the participant and takes on the cluster that its data belong to.
func (s *session) meet(ctx context.Context) error {
	d, err := s.awaitServing(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.cfg.Name == "":
		s.name = d.GetName()
	case d.GetName() != s.cfg.Name:
		return fmt.Errorf("%s is participant %q, want %q", s.cfg.Endpoint, d.GetName(), s.cfg.Name)
	}
	if err := fsm.CheckParticipant("name that Describe says", s.name); err != nil {
		return err
	}
	s.kind, s.incarnation, s.onePhase = d.GetKind(), d.GetIncarnation(), d.GetOnePhase()
	if s.cfg.Incarnation != "" && s.incarnation != s.cfg.Incarnation {
		return fmt.Errorf("the data of %s have incarnation %q, want %q", s.name, s.incarnation, s.cfg.Incarnation)
	}
	s.clusterID, s.generation, s.term = clusterPrefix+s.run, firstGeneration, 1
	if bound := d.GetClusterId(); bound != "" {
		if !strings.HasPrefix(bound, clusterPrefix) {
			return fmt.Errorf("the data of %s belong to cluster %s: the suite needs a participant of its own, with new data", s.name, bound)
		}
		s.clusterID, s.generation, s.term = bound, max(firstGeneration, d.GetGeneration()), d.GetTerm()+1
	}
	return nil
}

// awaitServing waits until Describe is answered.
func (s *session) awaitServing(ctx context.Context) (*pb.DescribeResponse, error) {
	patience := s.cfg.Patience
	if s.cfg.Process != nil {
		patience = max(patience, startPatience)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		d, err := s.describe(ctx)
		if err == nil {
			return d, nil
		}
		if s.cfg.Process != nil {
			if ended := s.cfg.Process.Ended(); ended != nil {
				return nil, rpc.Errorf(rpc.ReasonUnreachable, "the participant ended: %w", ended)
			}
		}
		select {
		case <-ctx.Done():
			return nil, rpc.Errorf(rpc.ReasonUnreachable, "nobody answers Describe at %s within %s: %w", s.cfg.Endpoint, patience, err)
		case <-tick.C:
		}
	}
}

func (s *session) describe(ctx context.Context) (*pb.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return s.client.Describe(ctx, &pb.DescribeRequest{Fence: s.fence()})
}

// fence heads the messages, without a floor.
func (s *session) fence() *pb.Fence {
	return &pb.Fence{
		ClusterId: s.clusterID, Generation: s.generation, Term: s.termNow(), Participant: s.name, Incarnation: s.incarnation,
	}
}

// restart kills the participant and waits until it serves again.
func (s *session) restart(ctx context.Context) error {
	if err := s.cfg.Process.Kill(); err != nil {
		return fmt.Errorf("kill the participant: %w", err)
	}
	if err := s.cfg.Process.Start(); err != nil {
		return fmt.Errorf("start the participant again: %w", err)
	}
	_, err := s.awaitServing(ctx)
	return err
}

// revive starts the participant again if it has ended by itself, so that the
// checks that follow are about something, and says how it had ended.
func (t *trial) revive() (ended error) {
	if t.cfg.Process == nil {
		return nil
	}
	t.reviving.Lock() // checks side by side
	defer t.reviving.Unlock()
	if ended = t.cfg.Process.Ended(); ended == nil {
		return nil
	}
	if err := t.cfg.Process.Start(); err != nil {
		return errors.Join(ended, err)
	}
	_, err := t.awaitServing(t.ctx)
	return errors.Join(ended, err)
}

func (s *session) close() error {
	err := s.conn.Close()
	if s.cfg.Process != nil {
		err = errors.Join(err, s.cfg.Process.Kill())
	}
	return err
}
