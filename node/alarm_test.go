package node

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever is set, set anew and stopped: nobody is woken before its time, each
// is woken once, and nobody who was stopped.
func TestAlarmsWakeWhoseTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leader{ctx: t.Context(), start: time.Now()}
		const flights = 200
		list, at := make([]*flight, flights), make([]time.Duration, flights)
		for i := range list {
			// Each is run by somebody already, so that what it is told can be read.
			list[i] = &flight{l: l, running: true}
		}
		for range 5 * flights {
			i := rand.IntN(flights)
			if rand.IntN(4) == 0 {
				l.alarms.stop(list[i])
				at[i] = 0
				continue
			}
			at[i] = time.Duration(1+rand.IntN(50)) * time.Second
			l.alarms.set(list[i], at[i])
		}
		for now := time.Duration(0); now <= time.Minute; now += time.Second {
			synctest.Wait()
			for i, f := range list {
				f.mu.Lock()
				woken := len(f.inbox)
				f.mu.Unlock()
				if due := at[i] != 0 && at[i] <= l.now(); woken > 1 || (woken == 1) != due {
					t.Fatalf("after %s: woken %d times, due at %s", l.now(), woken, at[i])
				}
			}
			time.Sleep(time.Second) // of the bubble's clock
		}
		if len(l.alarms.queue) != 0 {
			t.Errorf("%d are left", len(l.alarms.queue))
		}
	})
}
