package booking

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/concordat-tx/concordat/node/local"
)

// TestBookings: clients book by the example's command while each of its services
// and the leader is killed with kill -9. Every booking is in all three stores or
// in none, as its client was told, and refusals come back in the services' words.
func TestBookings(t *testing.T) {
	w := newWorld(t)
	l := newLoad(w)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx) })
	defer wg.Wait()
	defer stop()
	met := 0
	for _, name := range []string{"seats", "payments", "profiles"} {
		l.goesOn("before the kill of " + name)
		met += w.strike(name, w.services[name])
	}
	l.goesOn("before the kill of the leader")
	leader, err := w.AwaitLeader(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	met += w.strike("leader", leader.Process)
	l.goesOn("at the end")
	stop()
	wg.Wait()
	l.audit()
	if met == 0 {
		t.Error("no kill met a branch that was prepared: none was in the midst of a booking")
	}
	for _, reason := range []string{full, broke} {
		if l.refusals[reason] == 0 {
			t.Errorf("nobody was refused with %q", reason)
		}
	}
	t.Logf("%d booked; refused: %v; asked again %d times", len(l.booked), l.refusals, l.again)
}

// goesOn waits for more bookings.
func (l *load) goesOn(when string) {
	l.w.t.Helper()
	before := l.count.Load()
	eventually(l.w.t, patience, "flights are booked, "+when, func() bool { return l.count.Load() >= before+10 })
}

// strike kills a process and starts it again, and returns how many branches were
// prepared in the databases meanwhile.
func (w *world) strike(name string, p *local.Process) int {
	w.t.Helper()
	err := p.Kill()
	left, errLook := w.preparedInDatabases(within(w.t, patience))
	if err := errors.Join(err, errLook, p.Start()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%s killed; %d branches are prepared in the databases", name, left)
	return left
}
