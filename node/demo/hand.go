package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// process is what can be struck.
type process interface {
	PID() int
	Running() bool
	Kill() error
	Pause() error
	Resume() error
}

// subject is one process under the hand.
type subject struct {
	name string
	proc process
	// start starts it again, and log is where it says why it ended.
	start func(context.Context) error
	log   string
	// node is nil for a participant and a database, store for all but that.
	node  *local.Node
	store *store

	// What follows is guarded by the hand's mu.
	killed, paused, cut bool
	restart             chan struct{}      // closed to end a killed one's downtime early
	strikes             map[string]*Strike // that go on, by what was done
}

// hand is what strikes the processes and puts them right again. Its methods
// are safe for concurrent use; begin comes first.
type hand struct {
	d        *Demo
	subjects []*subject
	wg       sync.WaitGroup // of what strike began

	mu        sync.Mutex // guards what follows and the subjects' state
	began     time.Time
	ledger    *ledger
	failovers []*Failover
	strikes   []*Strike
	turns     map[Target]int // of participants and databases
	ctx       context.Context
	cancel    context.CancelFunc
	closed    bool
	// shown is a copy of the last failover.
	shown *Failover
}

func newHand(d *Demo) *hand {
	h := &hand{d: d, turns: map[Target]int{}}
	for _, n := range d.cluster.Nodes {
		h.subjects = append(h.subjects, &subject{name: n.ID, proc: n.Process, start: starter(n.Process), log: n.Log, node: n})
	}
	for _, name := range participants {
		p := d.cluster.Participants[name]
		h.subjects = append(h.subjects, &subject{name: name, proc: p.Process, start: starter(p.Process), log: p.Log})
	}
	for _, s := range d.stores {
		h.subjects = append(h.subjects, &subject{name: s.name, proc: s.server, start: s.server.Restart, log: s.server.Log(), store: s})
	}
	for _, s := range h.subjects {
		s.strikes = map[string]*Strike{}
	}
	return h
}

func starter(p *local.Process) func(context.Context) error {
	return func(context.Context) error { return p.Start() }
}

// begin says that the load does. What async begins ends with ctx.
func (h *hand) begin(ctx context.Context, l *ledger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began, h.ledger = time.Now(), l
	h.ctx, h.cancel = context.WithCancel(ctx)
}

// find is the subject of that name; there is one.
func (h *hand) find(name string) *subject {
	return h.subjects[slices.IndexFunc(h.subjects, func(s *subject) bool { return s.name == name })]
}

func (h *hand) isPaused(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(name).paused
}

// condition is what was done to a subject and is not undone.
func (h *hand) condition(s *subject) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.killed:
		return "killed"
	case s.paused:
		return "paused"
	case s.cut:
		return "cut off"
	}
	return stateUp
}

// stateUp is the condition of a subject to which nothing is done.
const stateUp = "up"

// strike kills what a target stands for and sees it come back.
func (h *hand) strike(ctx context.Context, target Target) error {
	if target == KillParticipant || target == KillDatabase {
		return h.kill(ctx, h.next(target), target)
	}
	leader := h.d.cluster.Leader(ctx)
	if target == KillLeader {
		if leader == nil {
			return errors.New("nobody leads at the moment")
		}
		return h.killLeader(ctx, h.find(leader.ID))
	}
	for _, s := range h.subjects {
		if s.node != nil && s.node != leader && h.condition(s) == stateUp {
			return h.kill(ctx, s, target)
		}
	}
	return errors.New("no follower is up")
}

// next takes turns over the participants, or the databases.
func (h *hand) next(target Target) *subject {
	h.mu.Lock()
	defer h.mu.Unlock()
	var those []*subject
	for _, s := range h.subjects {
		if s.node == nil && s.role() == target {
			those = append(those, s)
		}
	}
	turn := h.turns[target]
	h.turns[target]++
	return those[turn%len(those)]
}

// role is what a subject is that is no node.
func (s *subject) role() Target {
	if s.store != nil {
		return KillDatabase
	}
	return KillParticipant
}

// strikeNamed kills one process, as whatever it is at that moment.
func (h *hand) strikeNamed(ctx context.Context, name string) error {
	s := h.find(name)
	if s.node == nil {
		return h.kill(ctx, s, s.role())
	}
	if leader := h.d.cluster.Leader(ctx); leader == s.node {
		return h.killLeader(ctx, s)
	}
	return h.kill(ctx, s, KillFollower)
}

// take marks a subject as killed; an error if it is already. What it returns
// is closed to end the downtime early.
func (h *hand) take(s *subject) (restart <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.killed {
		return nil, fmt.Errorf("%s is down already", s.name)
	}
	s.killed, s.paused, s.restart = true, false, make(chan struct{})
	h.over(s, "pause")
	return s.restart, nil
}

// kill ends a follower, a participant or a database and sees it come back.
func (h *hand) kill(ctx context.Context, s *subject, role Target) error {
	if s.store != nil {
		s.store.holds(ctx)
	}
	restart, err := h.take(s)
	if err != nil {
		return err
	}
	h.record(s, "kill", role)
	pid := s.proc.PID()
	if err := s.proc.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.name, err)
	}
	h.hit(s)
	h.d.screen.alarm("KILL", "kill -9 %d: %s, %s", pid, s.name, role.phrase())
	if err := h.comeBack(ctx, s, restart); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over(s, "kill")
	return nil
}

// killLeader ends the leader, watches another one take over and brings the
// killed node back. The figures of the clients are filled in later.
func (h *hand) killLeader(ctx context.Context, s *subject) error {
	st := h.d.look(ctx, s.node)
	if st == nil {
		return fmt.Errorf("%s does not answer", s.name)
	}
	restart, err := h.take(s)
	if err != nil {
		return err
	}
	f := &Failover{Killed: s.name, PID: s.proc.PID(), Term: st.GetTerm(), at: time.Now()}
	h.mu.Lock()
	f.mark = h.ledger.length()
	h.mu.Unlock()
	if err := s.proc.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.name, err)
	}
	h.d.screen.alarm("KILL", "kill -9 %d: %s, leader of term %d", f.PID, f.Killed, f.Term)
	h.show(f)
	watch, cancel := h.bounded(ctx)
	defer cancel()
	var watched error
	var wg sync.WaitGroup
	wg.Go(func() { watched = h.d.takeover(watch, f, func() { h.show(f) }) })
	err = h.comeBack(ctx, s, restart)
	back := f.since(time.Now())
	wg.Wait()
	if err == nil {
		f.Back = back
	}
	h.show(f)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failovers = append(h.failovers, f)
	return errors.Join(watched, err)
}

// bounded is how long a cluster that nobody else strikes may take to recover.
// Where somebody does, it lasts until all is put right.
func (h *hand) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if h.d.cfg.Terminal != nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, failoverTimeout)
}

// show keeps a copy of a failover for whoever watches.
func (h *hand) show(f *Failover) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shown == nil || !h.shown.at.After(f.at) {
		shown := *f
		h.shown = &shown
	}
}

// comeBack starts a killed process after its downtime and waits until it has
// caught up, or serves.
func (h *hand) comeBack(ctx context.Context, s *subject, restart <-chan struct{}) error {
	down := time.NewTimer(h.d.cfg.downtime())
	defer down.Stop()
	select {
	case <-down.C:
	case <-restart:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	s.killed = false
	h.mu.Unlock()
	if s.store != nil {
		return h.settle(ctx, s)
	}
	if s.node != nil {
		if err := h.d.caughtUp(ctx, s.node); err != nil {
			return fmt.Errorf("%s after its restart: %w", s.name, err)
		}
		h.d.screen.event("back", "%s was started again (pid %d) and has caught up", s.name, s.proc.PID())
		return nil
	}
	if err := h.d.serves(ctx, s); err != nil {
		return fmt.Errorf("%s after its restart: %w", s.name, err)
	}
	h.d.screen.event("back", "%s was started again (pid %d) and serves", s.name, s.proc.PID())
	return nil
}

// settle sees what waited in a database that answers again come to its end.
func (h *hand) settle(ctx context.Context, s *subject) error {
	answered := time.Now()
	h.d.screen.event("back", "%s was started again (pid %d) and answers", s.name, s.proc.PID())
	waiting, took, err := s.store.settle(ctx)
	if err != nil {
		return fmt.Errorf("%s after its restart: %w", s.name, err)
	}
	h.d.screen.event("settled", "%s: %s", s.name, waited(waiting, *millis(took)))
	h.mu.Lock()
	defer h.mu.Unlock()
	if strike := s.strikes["kill"]; strike != nil {
		strike.Answered, strike.Waiting, strike.Settled = millis(answered.Sub(strike.at)), waiting, millis(took)
	}
	return nil
}

// togglePause stops a process, or lets it go on.
func (h *hand) togglePause(ctx context.Context, name string) error {
	s, role := h.find(name), h.roleOf(ctx, name)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.killed:
		return fmt.Errorf("%s is down", s.name)
	case s.paused:
		return h.resume(s)
	}
	if err := s.proc.Pause(); err != nil {
		return err
	}
	s.paused = true
	h.recordLocked(s, "pause", role)
	h.d.screen.alarm("PAUSE", "kill -STOP %d: %s, %s; s lets it go on", s.proc.PID(), s.name, role.phrase())
	return nil
}

// resume lets a process go on. Caller holds mu.
func (h *hand) resume(s *subject) error {
	if err := s.proc.Resume(); err != nil {
		return err
	}
	s.paused = false
	h.over(s, "pause")
	h.d.screen.event("go on", "kill -CONT %d: %s", s.proc.PID(), s.name)
	return nil
}

// toggleCut cuts a process off from all others, or heals that.
func (h *hand) toggleCut(ctx context.Context, name string) error {
	s, role := h.find(name), h.roleOf(ctx, name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.cut {
		h.heal(s)
		return nil
	}
	switch {
	case s.store != nil:
		return fmt.Errorf("%s cannot be cut off; %s, which is over it, can", s.name, s.store.of())
	case h.d.cfg.Keep:
		return errors.New("with --keep nothing can be cut off: the relays end with the demo")
	case !local.CanCut():
		return errors.New("cutting off takes Linux")
	}
	if err := h.d.cluster.Cut(s.name); err != nil {
		return err
	}
	s.cut = true
	h.recordLocked(s, "cut", role)
	h.d.screen.alarm("CUT", "%s, %s, hears nobody and is heard by nobody", s.name, role.phrase())
	return nil
}

// heal ends a cut. Caller holds mu.
func (h *hand) heal(s *subject) {
	h.d.cluster.Heal(s.name)
	s.cut = false
	h.over(s, "cut")
	h.d.screen.event("heal", "%s is connected again", s.name)
}

// restore puts everything right at once.
func (h *hand) restore() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, s := range h.subjects {
		if s.paused {
			errs = append(errs, h.resume(s))
		}
		if s.cut {
			h.heal(s)
		}
		if s.killed && s.restart != nil {
			close(s.restart)
			s.restart = nil
		}
	}
	return errors.Join(errs...)
}

// roleOf is what a process is at the moment.
func (h *hand) roleOf(ctx context.Context, name string) Target {
	s := h.find(name)
	if s.node == nil {
		return s.role()
	}
	if leader := h.d.cluster.Leader(ctx); leader == s.node {
		return KillLeader
	}
	return KillFollower
}

func (h *hand) record(s *subject, what string, role Target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recordLocked(s, what, role)
}

// recordLocked enters a strike that goes on. Caller holds mu.
func (h *hand) recordLocked(s *subject, what string, role Target) {
	strike := &Strike{What: what, Role: role, Name: s.name, PID: s.proc.PID(), at: time.Now()}
	strike.At = *millis(strike.at.Sub(h.began))
	s.strikes[what] = strike
	h.strikes = append(h.strikes, strike)
}

// hit notes that a kill is over: what is done from now on is done without it.
func (h *hand) hit(s *subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strike := s.strikes["kill"]; strike != nil {
		strike.hit = time.Now()
	}
}

// over ends a strike, if there is one. Caller holds mu.
func (h *hand) over(s *subject, what string) {
	if strike := s.strikes[what]; strike != nil {
		strike.back = time.Now()
		strike.Back = millis(strike.back.Sub(strike.at))
		delete(s.strikes, what)
	}
}

// struck reports whether anything was done.
func (h *hand) struck() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.failovers)+len(h.strikes) > 0
}

// found is what was done and what followed; nothing may be under way.
func (h *hand) found() ([]*Failover, []*Strike) {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.failovers, func(a, b *Failover) int { return a.at.Compare(b.at) })
	return slices.Clone(h.failovers), slices.Clone(h.strikes)
}

// excuse marks, in a copy of answers, those that follow from what was done to participants.
func (h *hand) excuse(entries []entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	excuse(entries, h.strikes)
}

// serves waits until a participant answers.
func (d *Demo) serves(ctx context.Context, s *subject) error {
	for {
		if d.eyes.describe(ctx, s.name) != nil {
			return nil
		}
		if !s.proc.Running() {
			return fmt.Errorf("it ended; %s says why", s.log)
		}
		if err := wait(ctx, 4*lookPause); err != nil {
			return err
		}
	}
}

// async does something that takes a while; what goes wrong is shown. False: it
// is too late for that.
func (h *hand) async(do func(context.Context) error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil || h.closed {
		return false
	}
	h.wg.Go(func() {
		defer h.d.view.rescue()
		if err := do(h.ctx); err != nil && h.ctx.Err() == nil {
			h.d.screen.event("refused", "%v", err)
		}
	})
	return true
}

// finish takes no more orders, puts everything right and waits until it is.
func (h *hand) finish(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	cancel := h.cancel
	h.mu.Unlock()
	err := h.restore()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	h.wg.Wait()
	cancel()
	return errors.Join(err, context.Cause(ctx))
}
