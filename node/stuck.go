package node

// stick counts a branch that waits because a call failed.
func (f *flight) stick(i int) {
	if f.legs[i].stuck {
		return
	}
	f.legs[i].stuck = true
	f.legs[i].link.stuck.Add(1)
	f.recountWaiting()
}

// unstick takes a branch whose participant answered out of the count.
func (f *flight) unstick(i int) {
	if !f.legs[i].stuck {
		return
	}
	f.legs[i].stuck = false
	f.legs[i].link.stuck.Add(-1)
	f.recountWaiting()
}

// recountWaiting keeps the leadership's count of flights that wait for somebody who is down.
func (f *flight) recountWaiting() {
	waiting := false
	for i := range f.legs {
		waiting = waiting || f.legs[i].stuck
	}
	if waiting != f.waiting {
		f.setWaiting(waiting)
	}
}

func (f *flight) setWaiting(waiting bool) {
	f.waiting = waiting
	change := int64(1)
	if !waiting {
		change = -1
	}
	f.l.waiting.Add(change)
	// Nobody works on it, at the participants that answer neither: one that is
	// dead must not take up the places of those it shares transactions with.
	for i := range f.legs {
		f.legs[i].active.Add(-change)
	}
}
