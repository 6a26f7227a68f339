package databases

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// window is a stretch of the life of a branch in which something may die.
type window struct {
	name string
	// point is where the agent is held then, or, with blocks, before.
	point string
	// blocks makes what keeps a statement in the database from ending, in the
	// transaction of that id; nil if the agent itself is held.
	blocks func(w *world, kind, id string) block
	// asksKV: the agent is not held, and the KV participant has not voted.
	asksKV bool
	// listed: the database lists the branch as prepared then.
	listed bool
	// decided: the transaction commits, whoever dies.
	decided bool
}

// windows are all that a branch goes through.
var windows = []window{
	{name: "before BEGIN", point: "participant.prepare.receive.after"},
	{name: "working, not prepared", point: "participant.prepared.write.before"},
	{name: "PREPARE in flight", point: "participant.prepared.write.before", blocks: func(w *world, kind, id string) block {
		if kind == maria {
			return &backupLock{verb: "XA PREPARE"}
		}
		return slowTrigger{w.postgres, id}
	}},
	{name: "prepared, vote not sent", point: "participant.prepared.write.after", listed: true},
	{name: "voted, decision unknown", asksKV: true, listed: true, decided: true},
	{name: "finish in flight", point: "participant.settled.write.before", listed: true, decided: true, blocks: func(w *world, kind, id string) block {
		if kind == maria {
			return &backupLock{verb: "XA COMMIT"}
		}
		return missingStandby{}
	}},
	{name: "finished, ack lost", point: "participant.commit.answer.before", decided: true},
}

// enter submits a transaction and returns when its branch of kind is in the
// window. passed is to be called when the victim is dead, open when it is back.
func (win window) enter(w *world, kind, id string, entries []*pb.Branch) (s *submission, passed, open func()) {
	w.t.Helper()
	a, nothing := w.agents[kind], func() {}
	submit := func() *submission {
		return w.submits(&pb.SubmitRequest{Id: id, Timeout: durationpb.New(patience / 2), Branches: entries})
	}
	if win.asksKV {
		return w.undecidedOf(id, submit), nothing, w.decide
	}
	w.holdAt(a, win.point)
	s = submit()
	eventually(w.t, patience, "the branch of "+kind+" comes to "+win.point, func() bool { return w.isHeld(a) })
	if win.blocks == nil {
		return s, func() {
			if a.Running() {
				w.letGo(a)
			}
		}, nothing
	}
	b, t := win.blocks(w, kind, id), w.t
	b.close(t)
	t.Cleanup(func() {
		if t.Failed() { // other tests have the same server
			b.open(t)
		}
	})
	w.letGo(a)
	eventually(w.t, patience, "a statement waits in "+kind, func() bool { return b.waits(w.t) })
	return s, nothing, func() { b.open(w.t) }
}

// crossing is one run through a window.
type crossing struct {
	window
	kind, victim string
}

func (c crossing) String() string { return c.kind + ", " + c.name + ", kill of the " + c.victim }

// crossings are all of them.
func crossings() (list []crossing) {
	for _, kind := range []string{pg, maria} {
		for _, win := range windows {
			for _, victim := range []string{"database", "agent", "leader"} {
				list = append(list, crossing{win, kind, victim})
			}
		}
	}
	return list
}

// victimOf is what dies.
func (w *world) victimOf(c crossing) *victim {
	name := map[string]string{"database": "server of " + c.kind, "agent": "agent of " + c.kind, "leader": "leader"}[c.victim]
	all := w.victims()
	return all[slices.IndexFunc(all, func(v *victim) bool { return v.name == name })]
}

// TestWindows: database, agent and leader are killed with kill -9 in every
// window of the life of a branch, in either database. Money is constant, what
// clients are told is what the data say, and ten seconds after everything is
// back nothing is prepared and no transaction unsettled.
func TestWindows(t *testing.T) {
	w := newWorld(t, newBank(t, accounts), "")
	execute(t, w.postgres, gates...)
	other, err := w.Client() // a second client, of whom the same must hold
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	l := &ledger{w: w, clients: []*rpc.Client{w.client, other}, outcomes: map[string]pb.Outcome{}}
	settled := map[string][]time.Duration{}
	for i, c := range crossings() {
		t.Run(c.String(), func(t *testing.T) {
			w.t = t
			took := l.cross(c, i)
			settled[c.victim] = append(settled[c.victim], took)
			if c.victim == "database" && c.listed {
				settled["database, with a prepared branch"] = append(settled["database, with a prepared branch"], took)
			}
		})
		if t.Failed() {
			break
		}
	}
	w.t = t
	for _, victim := range slices.Sorted(maps.Keys(settled)) {
		list := settled[victim]
		slices.Sort(list)
		t.Logf("kill of the %s, %d times: all branches and transactions are settled a median of %v, at most %v, after its return",
			victim, len(list), list[len(list)/2], list[len(list)-1])
	}
}

// ledger holds the answers of clients against the data.
type ledger struct {
	w        *world
	clients  []*rpc.Client
	outcomes map[string]pb.Outcome
}

// cross kills the victim in the window, and demands that all is well soon
// after its return. It returns when that was.
func (l *ledger) cross(c crossing, n int) time.Duration {
	w := l.w
	w.t.Helper()
	ids := []string{fmt.Sprintf("first-%03d", n), fmt.Sprintf("second-%03d", n)}
	began := time.Now()
	first, passed, open := c.enter(w, c.kind, ids[0], l.entries(ids[0], 0))
	if found := len(w.preparedOf(c.kind, ids[0])) == 1; found != c.listed {
		w.t.Errorf("in the window the branch is listed: %v", found)
	}
	second := w.submitsTo(l.clients[1], &pb.SubmitRequest{Id: ids[1], Timeout: durationpb.New(patience / 2), Branches: l.entries(ids[1], 1)})
	v := w.victimOf(c)
	if err := v.kill(); err != nil {
		w.t.Fatal(err)
	}
	passed()
	// What is late comes when an agent is there again, and what was decided while it is not.
	early := c.victim == "agent" && c.decided
	if early {
		open()
	}
	if err := v.back(); err != nil {
		w.t.Fatal(err)
	}
	if !early {
		open()
	}
	back := time.Now()
	w.nothingPrepared(settles)
	for i, s := range []*submission{first, second} {
		l.outcomes[ids[i]] = l.outcomeOf(ids[i], s)
		eventually(w.t, settles-time.Since(back), ids[i]+" is settled", func() bool {
			r, err := l.clients[1-i].Get(within(w.t, 5*time.Second), &pb.GetRequest{Id: ids[i]})
			return err == nil && (r.GetState() == pb.State_STATE_COMMITTED || r.GetState() == pb.State_STATE_ABORTED) &&
				len(r.GetPending()) == 0 && r.GetOutcome() == l.outcomes[ids[i]] && !r.GetNeedsOperator()
		})
	}
	w.nothingPrepared(settles - time.Since(back))
	took := time.Since(back)
	w.t.Logf("%v and %v, settled %v after the return; %v in all",
		l.outcomes[ids[0]], l.outcomes[ids[1]], took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if o := l.outcomes[ids[0]]; (c.decided || c.victim == "leader") && o != pb.Outcome_COMMIT {
		w.t.Errorf("%s came to %v", ids[0], o)
	}
	l.compare()
	w.reachable(1)
	return took.Round(time.Millisecond)
}

// entries move two from the KV, one to each database.
func (l *ledger) entries(id string, account int) []*pb.Branch {
	return []*pb.Branch{l.w.entry(pg, id, account, 1), l.w.entry(maria, id, account, 1), l.w.entry(kv, id, account, -2)}
}

// outcomeOf is what a client was told, or learned by the id.
func (l *ledger) outcomeOf(id string, s *submission) pb.Outcome {
	l.w.t.Helper()
	<-s.done
	r, err := s.r, s.err
	if u, ok := errors.AsType[*rpc.UnknownOutcome](err); ok {
		r, err = l.clients[0].Abort(within(l.w.t, patience), &pb.AbortRequest{Id: u.ID, Since: &u.Since})
	}
	if err != nil || r.GetOutcome() == pb.Outcome_OUTCOME_UNSPECIFIED {
		l.w.t.Fatalf("%s came to %v, %v", id, r, err)
	}
	return r.GetOutcome()
}

// compare demands that the data are what the answers make, and money constant.
func (l *ledger) compare() {
	committed := map[string]bool{}
	for id, o := range l.outcomes {
		if o == pb.Outcome_COMMIT {
			committed[id] = true
		}
	}
	sum := 0
	for kind, each := range map[string]int{pg: 1, maria: 1, kv: -2} {
		found := l.w.contents(kind)
		if !maps.Equal(found.marks, committed) {
			l.w.t.Errorf("%s has %v, committed are %v", kind, found.marks, committed)
		}
		total := 0
		for _, b := range found.balances {
			total += b
		}
		if total != each*len(committed) {
			l.w.t.Errorf("%s has %d after %d commits of %d", kind, total, len(committed), each)
		}
		sum += total
	}
	if sum != 0 {
		l.w.t.Errorf("%d of money has been made or lost", sum)
	}
}
