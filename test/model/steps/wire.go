package steps

import "time"

// wire is the network between nodes and participants. Clients' calls are lost
// at random, but no cut lasts for them: they have other nodes to call.
type wire struct {
	w   *World
	cut [nodeCount + partyCount][nodeCount + partyCount]bool // from, to
}

// The places on the wire: nodes first, then participants.
func (n *node) place() int  { return n.i }
func (p *party) place() int { return nodeCount + p.i }

func (x *wire) up(from, to int) bool { return !x.cut[from][to] }

func (x *wire) both(a, b int) bool { return !x.cut[a][b] && !x.cut[b][a] }

// delay is how long a message takes; some take very long.
func (x *wire) delay() time.Duration {
	if x.w.chance(x.w.odds.delay) {
		x.w.happened(MessageDelayed)
		return x.w.between(time.Millisecond, 3*time.Second)
	}
	return x.w.between(100*time.Microsecond, 2*time.Millisecond)
}

// send carries a message to arrive; false if it is lost. It may arrive twice.
func (x *wire) send(from, to int, e event) bool {
	w := x.w
	if !x.up(from, to) {
		return false
	}
	if w.chance(w.odds.lose) {
		w.happened(MessageLost)
		return false
	}
	w.queue.push(w.now+x.delay(), e)
	if w.chance(w.odds.double) {
		w.happened(MessageTwice)
		w.queue.push(w.now+w.between(0, 10*time.Second), e)
	}
	return true
}

// broken is when the sender of a lost message learns that the connection is.
func (x *wire) broken() time.Duration { return x.w.between(time.Millisecond, 200*time.Millisecond) }
