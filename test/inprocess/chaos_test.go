package inprocess

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// chaos does harm and mends it, one after the other, as the seed has it.
type chaos struct {
	w       *world
	random  *rand.Rand
	parties []*party
}

// harm is one kind of it: do returns how it is mended.
type harm struct {
	name string
	do   func(*chaos) (mend func())
}

func (c *chaos) node() int     { return c.random.IntN(len(c.w.members)) }
func (c *chaos) party() *party { return c.parties[c.random.IntN(len(c.parties))] }

var harms = []harm{
	{"the leader crashes", func(c *chaos) func() {
		i := c.w.leader()
		c.w.crashNode(i)
		return func() { c.w.startNode(i) }
	}},
	{"the leader stops", func(c *chaos) func() {
		i := c.w.leader()
		c.w.stopNode(i)
		return func() { c.w.startNode(i) }
	}},
	{"a node crashes", func(c *chaos) func() {
		i := c.node()
		c.w.crashNode(i)
		return func() { c.w.startNode(i) }
	}},
	{"the leader is cut off from the nodes", func(c *chaos) func() {
		i := c.w.leader()
		c.w.raft.isolate(i)
		return func() { c.w.raft.heal(i) }
	}},
	{"a link between nodes is cut", func(c *chaos) func() {
		i, j := c.node(), c.node()
		if i == j {
			j = (i + 1) % len(c.w.members)
		}
		c.w.raft.cut(i, j)
		return func() { c.w.raft.mend(i, j) }
	}},
	{"a node cannot be reached by clients and participants", func(c *chaos) func() {
		i := c.node()
		mode := []passage{blackhole, hold, refuse}[c.random.IntN(3)]
		set := func(mode passage) {
			c.w.members[i].front.set(mode)
			for _, p := range c.parties {
				p.ways[i].set(mode)
			}
		}
		set(mode)
		return func() { set(pass) }
	}},
	{"a participant is cut off", func(c *chaos) func() {
		p, mode := c.party(), []passage{blackhole, hold, refuse}[c.random.IntN(3)]
		p.cutOff(mode)
		return func() { p.cutOff(pass) }
	}},
	{"nobody can call a participant", func(c *chaos) func() {
		p, mode := c.party(), []passage{blackhole, hold, refuse}[c.random.IntN(3)]
		p.front.set(mode)
		return func() { p.front.set(pass) }
	}},
	{"a participant stops", func(c *chaos) func() {
		p := c.party()
		p.stop()
		return p.start
	}},
	{"a participant is slow", func(c *chaos) func() {
		p := c.party()
		p.front.slow(time.Duration(c.random.IntN(100)) * time.Millisecond)
		return func() { p.front.slow(0) }
	}},
}

// Transfers run while nodes, participants and links fail at random; afterwards
// every client's word is compared with every participant's data.
func TestChaos(t *testing.T) {
	w := newWorld(t, options{nodes: 3, proxied: true, participants: []string{"a", "b", "c"}})
	l := newLoad(w, "a", "b", "c")
	r := seeded(t)
	c := &chaos{w: w, random: rand.New(rand.NewPCG(r.Uint64(), 2)), parties: []*party{w.parties["a"], w.parties["b"], w.parties["c"]}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx, 8, r) }()
	for end := time.Now().Add(3 * *soak); time.Now().Before(end); {
		h := harms[c.random.IntN(len(harms))]
		t.Logf("%s", h.name)
		mend := h.do(c)
		w.pauseFor(time.Duration(c.random.IntN(1500)) * time.Millisecond)
		mend()
		before := l.commits()
		w.eventually("transactions commit again after: "+h.name, func() bool { return l.commits() > before })
	}
	cancel()
	<-done
	l.audit()
}

// pauseFor lets the load run in a state of harm; how long is part of the seed.
func (w *world) pauseFor(d time.Duration) {
	end := time.Now().Add(d)
	w.eventually("a time of harm", func() bool { return time.Now().After(end) })
}
