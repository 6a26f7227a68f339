package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node/local"
)

var (
	pairs    = flag.Bool("pairs", false, "crash two processes at random points, again and again")
	seed     = flag.Uint64("seed", 0, "the choices of -pairs (0: new ones, which are printed)")
	duration = flag.Duration("duration", 30*time.Second, "how long -pairs goes on")
)

// pairWait is how long two armed processes are given to die, both, under load.
const pairWait = 2 * time.Second

// TestPairs arms two processes at random points, makes everything happen that
// makes them pass points, and audits after both are back. A process that never
// came to its point is told to forget it.
func TestPairs(t *testing.T) {
	if !*pairs {
		t.Skip("only with -pairs")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-pairs -seed %d -duration %s", *seed, *duration)
	r := rand.New(rand.NewPCG(*seed, 0))
	cases := slices.DeleteFunc(every(), func(c testCase) bool { return c.role == "client" || firstStart(c.point.Name) || staged(c.point.Name) })
	w := startWorld(t, cluster.LogStores[r.IntN(len(cluster.LogStores))])
	t.Logf("log store %s", w.store)
	defer w.close(t)
	defer w.logsOfFailure(t)
	rounds, deaths, double := 0, 0, 0
	for end := time.Now().Add(*duration); time.Now().Before(end) && !t.Failed(); {
		a, b := cases[r.IntN(len(cases))], cases[r.IntN(len(cases))]
		died := w.pair(r, a, b)
		rounds, deaths = rounds+1, deaths+died
		if died == 2 {
			double++
		}
	}
	t.Logf("%d rounds, %d crashes, both crashed in %d rounds", rounds, deaths, double)
	if double == 0 {
		t.Error("no two processes crashed in one round: this proves nothing about pairs")
	}
}

// staged says that a point is passed only when a case of its own brings it about.
func staged(point string) bool {
	for _, p := range []string{
		"node.snapshot.clear.", "node.segment.mend.", "node.migrate.", "leader.install.", "follower.install.", "dialer.", "listener.", "candidate.prevote.", "voter.prevote.",
		"participant.register.", "participant.store.create.", "participant.store.link.", "participant.store.unlink.", "participant.incarnation.",
		"participant.log.", "participant.checkpoint.",
	} {
		if strings.HasPrefix(point, p) {
			return true
		}
	}
	return false
}

// pair returns how many of the two died.
func (w *world) pair(r *rand.Rand, a, b testCase) (died int) {
	w.t.Helper()
	victims := map[*local.Process]string{}
	for _, c := range []testCase{a, b} {
		p := w.victim(c.role)
		if c.role == "participant" && r.IntN(2) == 0 {
			p = w.Participants[payments].Process
		}
		if victims[p] == "" {
			victims[p] = fmt.Sprintf("%s:%d", c.point.Name, 1+r.IntN(2))
		}
	}
	for p, point := range victims {
		w.arm(p, point)
	}
	nudge := w.nudges(r)
	done := make(chan []*tx, 1)
	go func() {
		txs := w.workload()
		nudge()
		done <- append(txs, w.workload()...)
	}()
	var txs []*tx
	for deadline := time.Now().Add(pairWait); txs == nil || time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		dead := w.reviveVictims(victims)
		died += dead
		if len(victims) == 0 && txs != nil {
			break
		}
		select {
		case txs = <-done:
		default:
		}
	}
	for p := range victims {
		_ = w.tryArm(p, "") // one that dies before it hears of it has died there
	}
	died += w.reviveVictims(victims)
	w.audit(txs, false)
	if w.t.Failed() {
		w.t.Logf("the pair was %v and %v", a, b)
	}
	return died
}

// reviveVictims starts again those that have died, and takes them off the list.
func (w *world) reviveVictims(victims map[*local.Process]string) (dead int) {
	for p, point := range victims {
		at := w.diedAt(p)
		if at == "" {
			continue
		}
		if name, _, _ := strings.Cut(point, ":"); at != name {
			w.t.Errorf("%s died at %s, not at %s", p.Name, at, name)
		}
		dead++
		delete(victims, p)
		w.restart(p)
	}
	return dead
}

// nudges makes rare points come up: the leadership moves, or a follower is asked.
func (w *world) nudges(r *rand.Rand) func() {
	transfer := func() { w.transfer(w.followerID()) }
	ask := func() { w.registerAt(w.followerID()); w.inquireAt(w.followerID()) }
	if r.IntN(2) == 0 {
		return func() { ask(); transfer() }
	}
	return func() { transfer(); ask() }
}
