package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// gatedLog applies entries to a real machine, each when the test lets it.
type gatedLog struct {
	gate    chan error // one receive an entry; an error is Raft's answer
	mu      sync.Mutex
	machine *fsm.Machine
	index   uint64
	entries []int // commands in each entry
	bytes   []int
	term    uint64
	tail    chan struct{} // closed when the newest entry has passed; nil before the first
}

func (l *gatedLog) submit(entry []byte, taken func()) ([]fsm.Result, error) {
	l.mu.Lock()
	before, mine := l.tail, make(chan struct{})
	l.tail = mine
	l.mu.Unlock()
	defer close(mine)
	taken()
	if before != nil {
		<-before
	}
	if err := <-l.gate; err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	results, err := l.machine.Apply(l.index, l.term, entry)
	l.entries, l.bytes = append(l.entries, len(results)), append(l.bytes, len(entry))
	return results, err
}

func (l *gatedLog) sizes() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.entries...)
}

// proposerInBubble starts a proposer whose term is 7; call it inside a synctest bubble.
func proposerInBubble(t *testing.T, change func(*Config)) (*proposer, *gatedLog) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.FollowCommands = 0 // but where a test is about that
	if change != nil {
		change(&cfg)
	}
	l := &gatedLog{gate: make(chan error), machine: fsm.New(), term: 7}
	p := newProposer(cfg, l.submit)
	p.begin(7)
	t.Cleanup(func() {
		p.close()
		for done := false; !done; {
			select {
			case l.gate <- nil:
			case <-p.isIdle():
				done = true
			}
		}
		p.task.Wait()
	})
	return p, l
}

func (p *proposer) isIdle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}

// inBackground proposes and returns where the answer comes.
func inBackground(ctx context.Context, p *proposer, id string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := p.propose(ctx, announcement(id))
		done <- err
	}()
	synctest.Wait()
	return done
}

func TestEntryUnderWayBuildsTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		var answers []<-chan error
		for i := range 11 {
			answers = append(answers, inBackground(t.Context(), p, fmt.Sprint(i)))
		}
		l.gate <- nil
		l.gate <- nil
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		if got := fmt.Sprint(l.sizes()); got != "[1 10]" {
			t.Errorf("commands per entry %s, should be [1 10]", got)
		}
	})
}

func TestBatchLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"commands", func(c *Config) { c.MaxBatchCommands = 4 }, "[1 4 4 2]"},
		{"bytes", func(c *Config) { c.MaxBatchBytes = 3 * 1100 }, "[1 3 3 3 1]"},
		{"one command above the bytes", func(c *Config) { c.MaxBatchBytes = 1024 }, "[1 1 1 1 1 1 1 1 1 1 1]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, l := proposerInBubble(t, tc.change)
				var answers []<-chan error
				for i := range 11 {
					answers = append(answers, inBackground(t.Context(), p, fmt.Sprint(i, strings.Repeat("x", 510))))
				}
				for range strings.Fields(tc.want) {
					l.gate <- nil
				}
				for _, a := range answers {
					if err := <-a; err != nil {
						t.Error(err)
					}
				}
				if got := fmt.Sprint(l.sizes()); got != tc.want {
					t.Errorf("commands per entry %s, should be %s", got, tc.want)
				}
			})
		})
	}
}

func TestEachCallerGetsItsOwnResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		first := inBackground(t.Context(), p, "first")
		type answer struct {
			id     string
			result fsm.Result
			err    error
		}
		answers := make(chan answer, 20)
		for i := range 20 {
			id := fmt.Sprintf("txn-%d", i)
			go func() {
				// An unknown transaction: the rejection is a result, not an error.
				r, err := p.propose(t.Context(), &fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: &fsmpb.Refuse{Id: id}}})
				answers <- answer{id, r, err}
			}()
		}
		synctest.Wait()
		l.gate <- nil
		l.gate <- nil
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		for range 20 {
			a := <-answers
			if a.err != nil || a.result.Txn == nil || a.result.Txn.ID != a.id {
				t.Errorf("%s: %+v, %v", a.id, a.result, a.err)
			}
		}
	})
}

func TestRejectionIsAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		go func() { l.gate <- nil }()
		r, err := p.propose(t.Context(), &fsmpb.Command{Kind: &fsmpb.Command_Finish{Finish: &fsmpb.Finish{Id: "nobody"}}})
		if err != nil || r.Rejection == nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A command that cannot be encoded is refused alone; what is queued beside it goes.
func TestUnencodableCommandFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		answers := []<-chan error{inBackground(t.Context(), p, "flying"), inBackground(t.Context(), p, "before")}
		bad := []<-chan error{inBackground(t.Context(), p, "not UTF-8: \xff")}
		lazily := make(chan error, 1)
		p.proposeLazily(announcement("nor this: \xff"), func(_ fsm.Result, err error) { lazily <- err })
		answers = append(answers, inBackground(t.Context(), p, "behind"))
		for range 2 {
			select {
			case l.gate <- nil:
			case <-time.After(time.Minute):
				t.Error("no entry comes")
			}
		}
		for _, answer := range append(bad, lazily) {
			if err := <-answer; !errors.Is(err, ErrUnencodable) || OutcomeOf(err) != NotApplied {
				t.Errorf("%v (%v)", err, OutcomeOf(err))
			}
		}
		for _, answer := range answers {
			if err := <-answer; err != nil {
				t.Error(err)
			}
		}
		if got := fmt.Sprint(l.sizes()); got != "[1 2]" {
			t.Errorf("commands per entry %s, should be [1 2]", got)
		}
	})
}

func TestContextOfACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		flying := inBackground(ctx, p, "flying")
		queued := inBackground(ctx, p, "queued")
		stays := inBackground(t.Context(), p, "stays")
		cancel()
		if err := <-flying; !errors.Is(err, context.Canceled) || OutcomeOf(err) != Unknown {
			t.Errorf("under way: %v (%v)", err, OutcomeOf(err))
		}
		if err := <-queued; !errors.Is(err, context.Canceled) || OutcomeOf(err) != NotApplied {
			t.Errorf("queued: %v (%v)", err, OutcomeOf(err))
		}
		_, err := p.propose(ctx, announcement("late"))
		if !errors.Is(err, context.Canceled) || OutcomeOf(err) != NotApplied {
			t.Errorf("ended before: %v (%v)", err, OutcomeOf(err))
		}
		l.gate <- nil
		l.gate <- nil
		if err := <-stays; err != nil {
			t.Error(err)
		}
		var ids []string
		for _, n := range l.machine.Nodes() {
			ids = append(ids, n.ID)
		}
		if got := strings.Join(ids, " "); got != "flying stays" {
			t.Errorf("applied %q; the one under way is applied all the same, the withdrawn one never", got)
		}
	})
}

func TestLazyCommandsRideAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		done := make(chan error, 8)
		lazily := func(id string) {
			p.proposeLazily(announcement(id), func(_ fsm.Result, err error) { done <- err })
		}
		began := time.Now()
		lazily("a")
		lazily("b")
		synctest.Wait()
		ride := inBackground(t.Context(), p, "c") // takes them along at once
		l.gate <- nil
		if err := errors.Join(<-ride, <-done, <-done); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the lazy commands waited %v although an entry went", waited)
		}
		lazily("d") // nobody takes it along
		l.gate <- nil
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != p.cfg.LazyDelay {
			t.Errorf("an entry of its own after %v, should be %v", waited, p.cfg.LazyDelay)
		}
		if got := fmt.Sprint(l.sizes()); got != "[3 1]" {
			t.Errorf("commands per entry %s, should be [3 1]", got)
		}
	})
}

// TestLazyCommandsOfAnEntry: as many as an entry takes wait for nothing.
func TestLazyCommandsOfAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, func(c *Config) { c.MaxBatchCommands = 4 })
		done := make(chan error, 10)
		began := time.Now()
		for i := range cap(done) {
			p.proposeLazily(announcement(fmt.Sprint(i)), func(_ fsm.Result, err error) { done <- err })
		}
		for n := range cap(done) {
			if n == 0 || n == 4 || n == 8 {
				l.gate <- nil
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if waited, want := time.Since(began), map[bool]time.Duration{true: p.cfg.LazyDelay}[n >= 8]; waited != want {
				t.Errorf("command %d waited %v, should be %v", n, waited, want)
			}
		}
		if got := fmt.Sprint(l.sizes()); got != "[4 4 2]" {
			t.Errorf("commands per entry %s, should be [4 4 2]", got)
		}
	})
}

func TestQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, func(c *Config) { c.QueueCommands, c.LazyCommands = 2, 3 })
		answers := []<-chan error{inBackground(t.Context(), p, "flying")}
		for i := range 2 {
			answers = append(answers, inBackground(t.Context(), p, fmt.Sprint(i)))
		}
		_, err := p.propose(t.Context(), announcement("too many"))
		if !errors.Is(err, ErrQueueFull) || OutcomeOf(err) != NotApplied {
			t.Errorf("full queue: %v", err)
		}
		done := make(chan error, 4)
		for range 4 {
			p.proposeLazily(announcement("lazy"), func(_ fsm.Result, err error) { done <- err })
		}
		if err := <-done; !errors.Is(err, ErrQueueFull) {
			t.Errorf("full lazy queue: %v", err)
		}
		l.gate <- nil
		l.gate <- nil
		for _, a := range append(answers, done, done, done) {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		huge := announcement(strings.Repeat("x", maxCommandBytes))
		if _, err := p.propose(t.Context(), huge); !errors.Is(err, ErrTooLarge) || OutcomeOf(err) != NotApplied {
			t.Errorf("huge command: %v", err)
		}
	})
}

func TestQueueBytesBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := proto.Size(announcement("0"))
		p, l := proposerInBubble(t, func(c *Config) { c.QueueBytes = 2 * size })
		answers := []<-chan error{inBackground(t.Context(), p, "f")}
		for i := range 2 {
			answers = append(answers, inBackground(t.Context(), p, fmt.Sprint(i)))
		}
		if _, err := p.propose(t.Context(), announcement("3")); !errors.Is(err, ErrQueueFull) {
			t.Errorf("full queue: %v", err)
		}
		l.gate <- nil
		l.gate <- nil
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		if p.bytes != 0 {
			t.Errorf("%d bytes counted in an empty queue", p.bytes)
		}
	})
}

func TestEndOfLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		flying := inBackground(t.Context(), p, "flying")
		queued := inBackground(t.Context(), p, "queued")
		lazy := make(chan error, 1)
		p.proposeLazily(announcement("lazy"), func(_ fsm.Result, err error) { lazy <- err })
		p.end()
		for name, answer := range map[string]<-chan error{"queued": queued, "lazy": lazy} {
			if err := <-answer; !errors.Is(err, ErrNotLeading) || OutcomeOf(err) != NotApplied {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := p.propose(t.Context(), announcement("late")); !errors.Is(err, ErrNotLeading) {
			t.Errorf("after the end: %v", err)
		}
		settled := make(chan error, 1)
		go func() { settled <- p.settled(t.Context()) }()
		synctest.Wait()
		select {
		case <-settled:
			t.Error("settled while an entry is under way")
		default:
		}
		lost := errors.New("whatever Raft says")
		l.gate <- lost
		if err := <-flying; !errors.Is(err, lost) || OutcomeOf(err) != Unknown {
			t.Errorf("under way: %v (%v)", err, OutcomeOf(err))
		}
		if err := <-settled; err != nil {
			t.Error(err)
		}
	})
}

// TestEntryOfAnEarlierTerm: the machine refuses what an earlier leadership left behind.
func TestEntryOfAnEarlierTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		go func() { l.gate <- nil }()
		l.term = 8
		r, err := p.propose(t.Context(), announcement("x"))
		if err != nil || r.Rejection == nil || r.Rejection.Kind != fsm.KindWrongTerm {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestSmallEntryIsFollowed: while the entry under way is small, one more follows
// it; never a third, and none that would be of lazy commands alone. The answers
// come in the order of the log.
func TestSmallEntryIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, func(c *Config) { c.FollowCommands = 2 })
		var order []string
		var mu sync.Mutex
		refuse := func(id string) *fsmpb.Command {
			return &fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: &fsmpb.Refuse{Id: id}}}
		}
		start := func(ids ...string) {
			for _, id := range ids {
				p.proposeThen(refuse(id), 0, func(_ fsm.Result, err error) {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, fmt.Sprint(id, err != nil))
				})
			}
			synctest.Wait()
		}
		flying := func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.flying
		}
		start("a")
		p.proposeLazily(refuse("lazy"), func(fsm.Result, error) {})
		time.Sleep(p.cfg.LazyDelay + time.Millisecond) // virtual: the lazy one is due
		if synctest.Wait(); flying() != 1 {
			t.Fatalf("%d entries under way with a lazy command waiting", flying())
		}
		start("b")
		if start("c", "d", "e"); flying() != 2 {
			t.Fatalf("%d entries under way", flying())
		}
		l.gate <- errors.New("lost")
		if synctest.Wait(); flying() != 2 {
			t.Fatalf("%d entries under way after the first has landed", flying())
		}
		l.gate <- nil // b and the lazy one
		synctest.Wait()
		start("f") // c, d and e are too many to be followed
		if got := flying(); got != 1 {
			t.Fatalf("%d entries under way behind a large one", got)
		}
		l.gate <- nil
		synctest.Wait()
		l.gate <- nil
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(order, " "); got != "atrue bfalse cfalse dfalse efalse ffalse" {
			t.Errorf("answers came as %s", got)
		}
		if got := fmt.Sprint(l.sizes()); got != "[2 3 1]" {
			t.Errorf("entries of %s commands", got)
		}
	})
}
