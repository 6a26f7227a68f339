package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// fault is one kind of harm. do harms, for a while or at once, and reports
// whether its effect was seen.
type fault struct {
	name string
	do   func(n *nemesis) bool
	// nodesOnly: participants and their links stay whole.
	nodesOnly bool
	// failover: it ends a leadership.
	failover bool
}

// nemesis harms the world, one fault after the other.
type nemesis struct {
	world  *world
	load   *load
	random *rand.Rand
	done   map[string]int // faults whose effect was seen while a transaction was open
	tried  int
	terms  map[uint64]bool
}

func faults() []fault {
	return []fault{
		{"leader killed", func(n *nemesis) bool { return n.killed(n.world.leader(), true) }, true, true},
		{"leader loses power", func(n *nemesis) bool { return n.killed(n.world.leader(), false) }, true, true},
		{"follower killed", func(n *nemesis) bool { return n.killed(n.follower(), true) }, true, false},
		{"follower loses power", func(n *nemesis) bool { return n.killed(n.follower(), false) }, true, false},
		{"leader stopped in order", func(n *nemesis) bool { return n.stopped(n.world.leader()) }, true, true},
		{"leadership transferred", func(n *nemesis) bool { return n.transferred() }, true, true},
		{"leader cut off", func(n *nemesis) bool { return n.isolated(n.world.leader(), n.world.nodeHosts, true, true) }, true, true},
		{"leader deaf", func(n *nemesis) bool { return n.isolated(n.world.leader(), n.world.nodeHosts, true, false) }, true, true},
		{"leader mute", func(n *nemesis) bool { return n.isolated(n.world.leader(), n.world.nodeHosts, false, true) }, true, true},
		{"follower cut off", func(n *nemesis) bool { return n.isolated(n.follower(), n.world.nodeHosts, true, true) }, true, false},
		{"leader paused", func(n *nemesis) bool { return n.paused(n.world.leader()) }, true, true},
		{"follower paused", func(n *nemesis) bool { return n.paused(n.follower()) }, true, false},
		{"node's disk slow", func(n *nemesis) bool { return n.slowDisk(n.pick(n.world.nodeHosts)) }, true, false},
		{"node's disk fails", func(n *nemesis) bool { return n.failingDisk(n.pick(n.world.nodeHosts), syscall.EIO) }, true, false},
		{"node's disk full", func(n *nemesis) bool { return n.failingDisk(n.pick(n.world.nodeHosts), syscall.ENOSPC) }, true, false},
		{"node's wall clock jumps", func(n *nemesis) bool { return n.clockJumps(n.pick(n.world.nodeHosts)) }, true, false},
		{"all nodes lose power", func(n *nemesis) bool { return n.blackout() }, true, true},
		{"slow network", func(n *nemesis) bool { return n.slowNetwork(n.world.nodeHosts) }, true, false},
		{"connections reset", func(n *nemesis) bool { return n.resets(n.pick(n.world.nodeHosts)) }, true, false},
		{"participant killed", func(n *nemesis) bool { return n.killed(n.pick(n.world.partHosts), true) }, false, false},
		{"participant loses power", func(n *nemesis) bool { return n.killed(n.pick(n.world.partHosts), false) }, false, false},
		{"participant cut off from all", func(n *nemesis) bool { return n.isolated(n.pick(n.world.partHosts), n.world.nodeHosts, true, true) }, false, false},
		{"participant deaf", func(n *nemesis) bool { return n.isolated(n.pick(n.world.partHosts), n.world.nodeHosts, true, false) }, false, false},
		{"participant mute", func(n *nemesis) bool { return n.isolated(n.pick(n.world.partHosts), n.world.nodeHosts, false, true) }, false, false},
		{"participant cut off from the leader", func(n *nemesis) bool {
			return n.isolated(n.pick(n.world.partHosts), []string{n.world.leader()}, true, true)
		}, false, false},
		{"participant's network slow", func(n *nemesis) bool { return n.slowNetwork(n.world.partHosts) }, false, false},
		{"participant paused", func(n *nemesis) bool { return n.paused(n.pick(n.world.partHosts)) }, false, false},
		{"participant's disk slow", func(n *nemesis) bool { return n.slowDisk(n.pick(n.world.partHosts)) }, false, false},
		{"participant's disk fails", func(n *nemesis) bool { return n.failingDisk(n.pick(n.world.partHosts), syscall.EIO) }, false, false},
		{"wires crossed", func(n *nemesis) bool { return n.crossed() }, false, false},
		{"participant removed and added", func(n *nemesis) bool { return n.removed(n.pick(n.world.partHosts)) }, false, false},
		{"messages lost, late, twice", func(n *nemesis) bool { return n.mischief() }, false, false},
	}
}

// some are half of the kinds, or all of them: what always happens together hides
// what happens without the rest.
func some(kinds []fault, seed uint64) []fault {
	random := rand.New(rand.NewPCG(seed, 7))
	if random.IntN(2) == 0 {
		return kinds
	}
	var list []fault
	for _, i := range random.Perm(len(kinds))[:(len(kinds)+1)/2] {
		list = append(list, kinds[i])
	}
	return list
}

func (n *nemesis) pick(list []string) string { return list[n.random.IntN(len(list))] }

func (n *nemesis) follower() string {
	leader := n.world.leader()
	for {
		if host := n.pick(n.world.nodeHosts); host != leader {
			return host
		}
	}
}

// while is how long a fault lasts: mostly short, sometimes long.
func (n *nemesis) while() time.Duration {
	limit := 2 * time.Second
	if n.random.IntN(4) == 0 {
		limit = 12 * time.Second
	}
	return 50*time.Millisecond + time.Duration(n.random.Int64N(int64(limit)))
}

// wait lets a fault last.
func (n *nemesis) wait() {
	time.Sleep(n.while()) // paces the faults, in virtual time
}

// run harms until ctx ends; then everything is whole again.
func (n *nemesis) run(ctx context.Context, kinds []fault) {
	for ctx.Err() == nil && !n.world.failed() {
		if sleep(ctx, time.Duration(n.random.Int64N(int64(n.world.profile.calm)))) != nil {
			break
		}
		f := kinds[n.random.IntN(len(kinds))]
		open, before := n.load.now()
		n.tried++
		n.world.trace("##", "%s, with %d transactions open", f.name, open)
		seen := f.do(n)
		if _, after := n.load.now(); seen && open+after-before > 0 {
			n.done[f.name]++
		}
		n.revive()
		n.world.trace("##", "%s is over, seen=%v", f.name, seen)
	}
}

// revive starts again what died by its own decision, or by ours.
func (n *nemesis) revive() {
	for _, host := range n.world.hosts() {
		p := n.world.processes[host]
		if p.running() && p.wish.Load() {
			p.crash(true)
		}
		if p.running() {
			continue
		}
		if err := p.start(); err != nil {
			n.world.fail("%v", err)
		}
	}
}

func (n *nemesis) killed(host string, told bool) bool {
	if host == "" {
		return false
	}
	n.world.processes[host].crash(told)
	n.wait()
	return true
}

func (n *nemesis) stopped(host string) bool {
	if host == "" {
		return false
	}
	n.world.processes[host].stop()
	n.wait()
	return true
}

func (n *nemesis) blackout() bool {
	for _, host := range n.world.nodeHosts {
		n.world.processes[host].crash(false)
	}
	n.wait()
	return true
}

func (n *nemesis) transferred() bool {
	before := n.world.leader()
	if before == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.world.client.TransferLeadership(ctx, n.follower())
	return err == nil
}

// isolated cuts a host off from others: deaf, it hears nothing; mute, it is not heard.
func (n *nemesis) isolated(host string, others []string, deaf, mute bool) bool {
	if host == "" {
		return false
	}
	before := n.swallowed()
	for _, other := range others {
		if other == host || other == "" {
			continue
		}
		if deaf {
			n.world.net.cut(other, host)
		}
		if mute {
			n.world.net.cut(host, other)
		}
	}
	n.wait()
	for _, other := range others {
		n.world.net.mend(other, host)
		n.world.net.mend(host, other)
	}
	return n.swallowed() > before
}

func (n *nemesis) swallowed() int {
	n.world.net.mu.Lock()
	defer n.world.net.mu.Unlock()
	return n.world.net.seen.swallowed
}

// paused stops what a process can see and do; its clocks go on.
func (n *nemesis) paused(host string) bool {
	if host == "" {
		return false
	}
	p := n.world.processes[host]
	n.world.net.freeze(host)
	p.currentDisk().freeze()
	n.wait()
	p.currentDisk().thaw()
	n.world.net.thaw(host)
	return true
}

func (n *nemesis) slowDisk(host string) bool {
	d := n.world.processes[host].currentDisk()
	d.setSlow([]time.Duration{20 * time.Millisecond, 150 * time.Millisecond, time.Second}[n.random.IntN(3)])
	n.wait()
	d.setSlow(0)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slowed > 0
}

// failingDisk makes the next write fail: the process must end itself (P15).
func (n *nemesis) failingDisk(host string, err error) bool {
	p := n.world.processes[host]
	d := p.currentDisk()
	d.failNext(err)
	until := func(limit time.Duration) {
		for deadline := time.Now().Add(limit); time.Now().Before(deadline) && !p.wish.Load(); {
			time.Sleep(10 * time.Millisecond) // polls a condition with a deadline
		}
	}
	until(5 * time.Second)
	d.mu.Lock()
	failed := d.failed > 0
	d.fail = 0
	d.mu.Unlock()
	if failed {
		until(time.Second) // the write has begun and may take its time
	}
	if failed && !p.wish.Load() {
		n.world.fail("a write of %s failed (%v) and it goes on", host, err)
	}
	if failed {
		p.crash(true)
		n.wait()
	}
	return failed
}

// clockJumps moves what a node takes for the time of day, by up to a day, for
// good. Time-outs are measured by another clock, which cannot be moved here: see
// test/model/steps.
func (n *nemesis) clockJumps(host string) bool {
	p := n.world.processes[host]
	p.skew.Store(n.random.Int64N(int64(48*time.Hour)) - int64(24*time.Hour))
	asked := p.asked.Load()
	n.wait()
	return p.asked.Load() > asked
}

// slowNetwork delays all that goes between a node and another host, there and back.
func (n *nemesis) slowNetwork(others []string) bool {
	by := []time.Duration{5 * time.Millisecond, 60 * time.Millisecond, 400 * time.Millisecond}[n.random.IntN(3)]
	from, to := n.pick(n.world.nodeHosts), n.pick(others)
	n.world.net.slowDown(from, to, by)
	n.world.net.slowDown(to, from, by)
	n.wait()
	n.world.net.slowDown(from, to, 0)
	n.world.net.slowDown(to, from, 0)
	return true
}

func (n *nemesis) resets(host string) bool {
	n.world.net.mu.Lock()
	var list []*conn
	for c := range n.world.net.conns {
		if c.from == host {
			list = append(list, c)
		}
	}
	n.world.net.mu.Unlock()
	for _, c := range list {
		c.reset()
	}
	return len(list) > 0
}

func (n *nemesis) mischief() bool {
	n.world.messages.set(0.05 + 0.25*n.random.Float64())
	n.wait()
	n.world.messages.set(n.world.profile.mischief)
	n.world.messages.mu.Lock()
	defer n.world.messages.mu.Unlock()
	return n.world.messages.seen != counts{}
}

// crossed sends what is meant for one participant to another one.
func (n *nemesis) crossed() bool {
	host, other := n.pick(n.world.partHosts), n.pick(n.world.partHosts)
	if host == other {
		return false
	}
	w := n.world.net
	before := w.crossings()
	w.cross(host, other)
	w.resetTo(host)
	n.wait()
	w.cross(host, host)
	w.resetTo(other)
	return w.crossings() > before
}

// removed drains a participant under load, and registers it again (P18).
func (n *nemesis) removed(host string) bool {
	c := n.world.client
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		p, err := c.RemoveParticipant(ctx, &pb.RemoveParticipantRequest{Name: host})
		if err != nil {
			break
		}
		closed := time.Now()
		n.unbegun(host)
		if p.GetState() != "removed" && sleep(ctx, 100*time.Millisecond) == nil {
			continue
		}
		n.wait()
		n.load.noneBegan(host, closed)
		break
	}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_, err := c.AddParticipant(ctx, &pb.AddParticipantRequest{Name: host, Endpoints: []string{rpcAddress(host)}})
		cancel()
		if err == nil {
			return true
		}
		n.world.trace("##", "add %s again: %v", host, err)
		n.revive()
	}
}

// unbegun: a participant that is removed has no branch that is open.
func (n *nemesis) unbegun(host string) {
	leader := n.world.leader()
	if leader == "" {
		return
	}
	n.world.processes[leader].view(func(m *fsm.Machine) {
		if p := m.Participant(host); p == nil || p.State != fsm.ParticipantRemoved {
			return
		}
		for _, t := range m.Live() {
			if i := t.BranchOf(host); i >= 0 && (t.State == fsm.Preparing || t.Owes(i)) {
				n.world.fail("%s was removed while its branch of %s is open", host, t.ID)
			}
		}
	})
}

func (n *nemesis) total() (sum int) {
	for _, k := range n.done {
		sum += k
	}
	return sum
}

func (n *nemesis) String() string { return fmt.Sprint(n.done) }
