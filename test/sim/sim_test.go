package sim

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

var (
	seeds   = flag.Int("seeds", 2, "how many fresh seeds to run")
	first   = flag.Uint64("first", 0, "run the seeds from here on instead of fresh ones")
	oneSeed = flag.Uint64("seed", 0, "run this seed alone")
	minutes = flag.Int("minutes", 2, "virtual minutes of faults, a seed")
	swarm   = flag.Bool("swarm", false, "draw each seed's world and kinds of fault by chance, instead of the standard one with all of them")
	verbose = flag.Bool("sim.log", false, "keep the processes' whole logs in the trace")
)

// settleWithin is how long after the last fault everything must be settled.
const settleWithin = 5 * time.Second

// summary is what a run came to.
type summary struct {
	committed, aborted, refused, unknown int
	once                                 int // committed in one phase
	faults, tried, failovers             int
	virtual                              time.Duration
	kinds                                map[string]int
}

func (s *summary) add(o summary) {
	s.committed += o.committed
	s.once += o.once
	s.aborted += o.aborted
	s.refused += o.refused
	s.unknown += o.unknown
	s.faults += o.faults
	s.tried += o.tried
	s.failovers += o.failovers
	s.virtual += o.virtual
	if s.kinds == nil {
		s.kinds = map[string]int{}
	}
	for k, n := range o.kinds { // order does not matter: they are added
		s.kinds[k] += n
	}
}

func (s *summary) String() string {
	all := s.committed + s.aborted + s.refused + s.unknown
	return fmt.Sprintf("%s virtual, %d faults seen of %d, %d failovers; %d transactions: %.1f %% committed (%.1f %% in one phase), %.1f %% aborted, %.1f %% refused, %.1f %% unknown",
		s.virtual.Round(time.Second), s.faults, s.tried, s.failovers, all,
		percent(s.committed, all), percent(s.once, all), percent(s.aborted, all), percent(s.refused, all), percent(s.unknown, all))
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(max(of, 1)) }

// TestSim runs fresh seeds with every kind of fault.
func TestSim(t *testing.T) { runSeeds(t, faults()) }

// TestSimCoordinators runs faults of the coordinators alone: nothing may abort
// because of them (P9).
func TestSimCoordinators(t *testing.T) {
	runSeeds(t, slices.DeleteFunc(faults(), func(f fault) bool { return !f.nodesOnly }))
}

func runSeeds(t *testing.T, kinds []fault) {
	list := []uint64{*oneSeed}
	if *oneSeed == 0 {
		list = nil
		for i := range *seeds {
			seed := rand.Uint64() >> 32
			if *first != 0 {
				seed = *first + uint64(i)
			}
			list = append(list, seed)
		}
	}
	// Most of what is made lives for moments, and memory is at hand.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var mu sync.Mutex // guards failed and total
	var failed bool
	var total summary
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for _, seed := range list {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				mu.Lock()
				over := failed && flag.Lookup("test.failfast").Value.String() == "true"
				mu.Unlock()
				if over {
					t.Skip("another seed has failed")
				}
				s := runSeed(t, seed, kinds)
				t.Log(&s)
				mu.Lock()
				defer mu.Unlock()
				failed = failed || t.Failed()
				total.add(s)
			})
		}
	})
	if left := openFiles(directories); len(left) > 0 {
		t.Errorf("left open: %v", left)
	}
	t.Logf("%d seeds in %s: %s\nfaults seen: %v", len(list), time.Since(began).Round(time.Second), &total, total.kinds)
	if total.once == 0 && total.committed >= 1000 {
		t.Errorf("%d committed, and none in one phase", total.committed)
	}
	if share := percent(total.committed, total.committed+total.aborted+total.refused+total.unknown); share < 70 && !t.Failed() {
		t.Errorf("only %.1f %% committed: faults prove nothing to transactions that do not run", share)
	}
}

func runSeed(t *testing.T, seed uint64, kinds []fault) (s summary) {
	dir, err := os.MkdirTemp(memoryDir(t), directories)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := standard()
	if *swarm {
		p = drawn(seed)
		kinds = some(kinds, seed)
	}
	p.faults = time.Duration(*minutes) * time.Minute
	var w *world
	inBubble(t, func(t *testing.T) {
		w = newWorld(dir, seed, p)
		s = w.play(kinds)
	})
	w.show(t, seed)
	return s
}

// directories of the worlds begin so.
const directories = "concordat-sim-"

// memoryDir is where files cost no disk, if there is such a place.
func memoryDir(t *testing.T) string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return t.TempDir()
}

// play runs load and faults, heals, and audits.
func (w *world) play(kinds []fault) (s summary) {
	defer w.close()
	if err := w.start(); err != nil {
		w.fail("%v", err)
		return s
	}
	l := &load{world: w}
	if err := l.prepare(context.Background()); err != nil {
		w.fail("%v", err)
		return s
	}
	n := &nemesis{world: w, load: l, random: rand.New(rand.NewPCG(w.draw(), 4)), done: map[string]int{}, terms: map[uint64]bool{}}
	began := time.Now()
	loading, stopLoad := context.WithCancel(context.Background())
	for i := range w.profile.clients {
		random := rand.New(rand.NewPCG(w.draw(), 5))
		l.all.Go(func() { l.client(loading, fmt.Sprintf("c%d", i+1), random) })
	}
	if !coordinatorsOnly(kinds) { // a call that is lost may cost a vote its budget
		w.messages.set(w.profile.mischief)
	}
	harming, cancel := context.WithTimeout(context.Background(), w.profile.faults)
	var watching sync.WaitGroup
	watching.Go(func() { n.watchTerms(harming) })
	n.run(harming, kinds)
	cancel()
	watching.Wait()
	w.messages.set(0)
	stopLoad()
	l.all.Wait()
	w.settled(settleWithin)
	if w.failed() {
		return s // nothing can be told from what is not settled
	}
	l.resolveRest()
	w.settled(settleWithin) // what was refused or aborted now
	if all := w.readAll(); all != nil {
		l.audit(all)
	}
	if coordinatorsOnly(kinds) {
		if err := l.unwantedAborts(); err != nil {
			w.fail("%v", err)
		}
	}
	s = summary{faults: n.total(), tried: n.tried, failovers: max(len(n.terms)-1, 0), virtual: time.Since(began), kinds: n.done}
	for _, t := range l.told {
		switch {
		case t.outcome == pb.Outcome_COMMIT:
			s.committed++
			if t.once {
				s.once++
			}
		case t.outcome == pb.Outcome_ABORT:
			s.aborted++
		case t.refused:
			s.refused++
		default:
			s.unknown++
		}
	}
	return s
}

// coordinatorsOnly reports whether participants and the messages to them stay whole.
func coordinatorsOnly(kinds []fault) bool {
	return !slices.ContainsFunc(kinds, func(f fault) bool { return !f.nodesOnly })
}

// watchTerms counts leaderships, and looks all the time that no two nodes hold
// different states at one index.
func (n *nemesis) watchTerms(ctx context.Context) {
	for round := 0; sleep(ctx, 100*time.Millisecond) == nil; round++ {
		for _, host := range n.world.nodeHosts {
			if node := n.world.processes[host].currentNode(); node != nil && node.Leads() {
				n.terms[node.Replica().Status().Term] = true
			}
		}
		if round%300 == 0 {
			n.sameStates()
		}
	}
}

func (n *nemesis) sameStates() {
	hashes := map[uint64]string{}
	for _, host := range n.world.nodeHosts {
		node := n.world.processes[host].currentNode()
		if node == nil {
			continue
		}
		index, hash := node.Replica().StateHash()
		if old, ok := hashes[index]; ok && old != hash {
			n.world.fail("%s has another state at index %d", host, index)
		}
		hashes[index] = hash
	}
}
