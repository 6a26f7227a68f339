package steps

import (
	"time"

	"github.com/concordat-tx/concordat/node/drive"
)

// link is how a participant is known to answer.
type link struct {
	down    bool
	probing bool
}

// doubt looks whether a participant answers, until it does.
func (l *lead) doubt(p *party) {
	k := &l.links[p.i]
	if k.probing {
		return
	}
	k.probing = true
	var probe func() bool
	probe = func() bool {
		if l.ended {
			return false
		}
		if p.up && l.w.wire.both(l.node.place(), p.place()) {
			k.probing = false
			if k.down {
				k.down = false
				for _, f := range append([]*flight(nil), l.order...) {
					if f.driver == nil {
						continue
					}
					if i := f.driver.Record().BranchOf(p.name); i >= 0 {
						f.tell(func() []drive.Effect { return f.driver.OnReachable(l.now(), i) })
					}
				}
			}
			return true
		}
		k.down = true
		l.breakCalls(p) // the connection is renewed
		l.w.after(l.w.between(50*time.Millisecond, 150*time.Millisecond), Probe, l.node.name, "", probe)
		return false
	}
	l.w.after(l.w.between(time.Millisecond, 5*time.Millisecond), Probe, l.node.name, "", probe)
}

// breakCalls ends what is under way to a participant: its connection broke.
func (l *lead) breakCalls(p *party) {
	for _, f := range l.order {
		for _, c := range f.calls {
			if c != nil && c.party == p {
				l.w.after(l.w.wire.broken(), CallEnds, l.node.name, f.id, func() bool { return c.end(answer{err: errBroken}) })
			}
		}
	}
}
