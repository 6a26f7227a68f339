package steps

import "time"

// breakThings plans the next fault, as long as there are any.
func (w *World) breakThings() {
	w.after(w.between(0, 2*w.odds.fault), Fault, "-", "", func() bool {
		if w.healing {
			return false
		}
		w.breakThings()
		w.breakOne()
		return true
	})
}

func (w *World) breakOne() {
	n, p := w.nodes[w.rng.IntN(nodeCount)], w.parties[w.rng.IntN(partyCount)]
	switch w.rng.IntN(12) {
	case 0:
		w.crashNode(n)
	case 1:
		w.depose()
	case 2:
		w.blip()
	case 3, 4:
		if p.up {
			w.happened(PartyCrash)
			w.say("%s crashes", p.name)
			p.crash()
			p.restartLater()
		}
	case 5, 6:
		w.cutLink(n.place(), w.rng.IntN(nodeCount+partyCount), w.rng.IntN(2) == 0)
	case 7:
		w.isolate(n.place(), w.between(50*time.Millisecond, 2*time.Second))
	case 8:
		w.jump(n, p)
	case 9, 10:
		if n.up {
			w.say("%s takes a snapshot", n.name)
			n.takeSnapshot()
		}
	default:
		if n.up {
			n.install(w.nodes[w.rng.IntN(nodeCount)])
		}
	}
}

func (w *World) crashNode(n *node) {
	if !n.up {
		return
	}
	w.happened(NodeCrash)
	w.say("%s crashes", n.name)
	n.crash()
	w.after(w.between(10*time.Millisecond, 1500*time.Millisecond), Mends, n.name, "", func() bool {
		if n.up {
			return false
		}
		w.say("starts again at index %d", n.snapIndex)
		n.start()
		return true
	})
}

// depose makes another node the leader; the old one lives on for a while.
func (w *World) depose() {
	if old := w.raft.leader; old != nil && w.raft.electOne(old) {
		w.happened(LeaderDeposed)
	}
}

// blip is a leadership that is lost and won again in the same term.
func (w *World) blip() {
	n := w.raft.leader
	if n == nil || n.lead == nil || !n.majority() {
		return
	}
	w.happened(LeaderBlip)
	w.say("%s leads term %d again", n.name, w.raft.term)
	n.lead.end()
	n.establish(w.raft.term)
}

func (w *World) cutLink(a, b int, oneWay bool) {
	if a == b || !w.wire.both(a, b) {
		return
	}
	w.wire.cut[a][b] = true
	if oneWay {
		w.happened(OneWayCut)
	} else {
		w.wire.cut[b][a] = true
		w.happened(LinkCut)
	}
	w.say("no way from %d to %d, one way: %t", a, b, oneWay)
	w.after(w.between(20*time.Millisecond, 3*time.Second), Mends, "-", "", func() bool {
		w.wire.cut[a][b], w.wire.cut[b][a] = false, false
		return true
	})
}

// isolate cuts a node or a participant off from everything.
func (w *World) isolate(place int, d time.Duration) {
	w.happened(LinkCut)
	w.say("%d is cut off", place)
	set := func(cut bool) {
		for i := range nodeCount + partyCount {
			if i != place {
				w.wire.cut[i][place], w.wire.cut[place][i] = cut, cut
			}
		}
	}
	set(true)
	w.after(d, Mends, "-", "", func() bool {
		set(false)
		return true
	})
}

// jump moves clocks: a monotonic one forward, as after a process was stopped; a
// wall clock anywhere.
func (w *World) jump(n *node, p *party) {
	switch w.rng.IntN(3) {
	case 0:
		w.happened(WallJump)
		n.wall = w.between(-time.Hour, time.Hour)
	case 1:
		w.happened(ClockJump)
		n.skew += w.between(0, 2*time.Second)
		if n.lead != nil && !n.lead.ended {
			for _, f := range n.lead.order {
				if f.driver != nil && !f.busy {
					f.planTimer()
				}
			}
		}
	default:
		w.happened(ClockJump)
		p.skew += w.between(0, 2*time.Second)
		if p.up {
			p.planInquiry()
		}
	}
}

// heal ends all faults.
func (w *World) heal() {
	w.healing = true
	w.wire.cut = [nodeCount + partyCount][nodeCount + partyCount]bool{}
	for _, n := range w.nodes {
		if !n.up {
			n.start()
		}
	}
	for _, p := range w.parties {
		if !p.up {
			p.start()
		}
	}
	w.raft.planElection(100 * time.Millisecond)
	for _, c := range w.clients {
		c.gone = false
	}
	w.mind()
}

// mind is the operator who settles, once the cluster has forgotten them, the
// branches that were given up, by the decision that the log had.
func (w *World) mind() {
	w.after(time.Second, Operator, "op", "", func() bool {
		w.mind()
		did := false
		for _, p := range w.parties {
			for _, r := range p.disk.heldRecords() {
				ref := r.ref()
				if b := w.truth.branch(ref.Attempt, p); b != nil && b.gaveUp && w.truth.lives[ref.Attempt].forgotten {
					did = p.settleByHand(ref, w.truth.lives[ref.Attempt].decision == committed, true) || did
				}
			}
		}
		return did
	})
}
