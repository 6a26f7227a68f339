package alerting

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const receiverURL = "http://alertmanager:9093/api/v2/alerts"

func undelivered(participant string, ids ...string) Alert {
	return Alert{
		Kind: "undelivered", Severity: pb.Alert_WARNING, Source: ClusterSource, Participant: participant, Cluster: "c1",
		Summary: "participant " + participant + " has not applied decisions", Action: "start it",
		Transactions: ids, Count: uint64(len(ids)), Retries: uint64(10 * len(ids)),
	}
}

const undeliveredName = "ConcordatUndelivered"

func wantTold(t *testing.T, r *receiver, want ...string) {
	t.Helper()
	if got := r.told(undeliveredName); !slices.Equal(got, want) {
		t.Fatalf("the receiver was told %v, want %v", got, want)
	}
}

// An alert is told once, repeated by the interval with what is known then, told
// to be over once, and then never again.
func TestToldOnceRepeatedAndResolvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		book := OpenLocal(LocalConfig{Tells: true})
		n := tells(t, r.webhook(receiverURL), book, nil)
		defer n.stop()
		time.Sleep(10 * time.Second)
		if got := r.took(); len(got) != 0 {
			t.Fatalf("told of nothing: %v", got)
		}
		began := time.Now()
		book.Raise(undelivered("seats", "a"))
		wantTold(t, r, "firing")
		first := r.took()[0].alerts[0]
		if !first.StartsAt.Equal(began) || !first.EndsAt.Equal(began.Add(4*DefaultRepeat)) {
			t.Errorf("from %s to %s", first.StartsAt, first.EndsAt)
		}
		time.Sleep(DefaultRepeat / 2)
		book.Raise(undelivered("seats", "a", "b"))
		time.Sleep(DefaultRepeat/2 - time.Millisecond)
		wantTold(t, r, "firing")
		time.Sleep(time.Millisecond)
		wantTold(t, r, "firing", "firing")
		second := r.took()[1].alerts[0]
		if second.Annotations["transactions"] != "a, b" || second.Annotations["retries"] != "20" || !second.StartsAt.Equal(began) {
			t.Errorf("repeated as %v", second)
		}
		if fmt.Sprint(second.Labels) != fmt.Sprint(first.Labels) {
			t.Errorf("the labels were %v and are %v", first.Labels, second.Labels)
		}
		time.Sleep(10 * DefaultRepeat)
		if got := r.told(undeliveredName); len(got) != 12 {
			t.Errorf("told %d times in 11 intervals", len(got))
		}
		time.Sleep(time.Second)
		over := time.Now()
		book.Resolve("undelivered", "seats")
		time.Sleep(24 * time.Hour)
		told := r.took()
		if len(told) != 13 {
			t.Fatalf("told %d times", len(told))
		}
		last := told[12].alerts[0]
		if !last.EndsAt.Equal(over) || !told[12].at.Equal(over) || !last.StartsAt.Equal(began) {
			t.Errorf("over from %s to %s, told at %s", last.StartsAt, last.EndsAt, told[12].at)
		}
		if left := book.Show(); len(left) != 0 {
			t.Errorf("the book keeps %v", left)
		}
		if n.count[ResultTaken] != 13 || n.count[ResultFailed]+n.count[ResultRefused] != 0 {
			t.Errorf("counted %v", n.count)
		}
	})
}

// A receiver that is down is tried with pauses, said once, and gets everything
// when it is back; what came and went meanwhile too.
func TestReceiverDownAndBack(t *testing.T) {
	for name, status := range map[string]int{"no connection": 0, "unavailable": http.StatusServiceUnavailable, "busy": http.StatusTooManyRequests} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(t)
				defer r.stop()
				book := OpenLocal(LocalConfig{Tells: true})
				n := tells(t, r.webhook(receiverURL), book, nil)
				defer n.stop()
				r.answer(status)
				began := time.Now()
				book.Raise(undelivered("seats", "a"))
				book.Raise(undelivered("payments", "a"))
				time.Sleep(time.Minute)
				over := time.Now()
				book.Resolve("undelivered", "payments")
				time.Sleep(9 * time.Minute)
				tried := r.attempts()
				if n := len(tried); n < 30 || n > 70 { // 15 s ± 25 % in the end
					t.Errorf("tried %d times in 10 minutes", n)
				}
				for i := 1; i < len(tried); i++ {
					if gap := tried[i].Sub(tried[i-1]); gap < 150*time.Millisecond || gap > 19*time.Second {
						t.Errorf("try %d came after %s", i, gap)
					}
				}
				if got := n.logged("[WARN]"); got != 1 {
					t.Errorf("%d warnings", got)
				}
				r.answer(http.StatusOK)
				time.Sleep(19 * time.Second)
				got := r.took()
				if len(got) != 1 || len(got[0].alerts) != 2 {
					t.Fatalf("got %v", got)
				}
				for _, a := range got[0].alerts {
					switch standing := a.EndsAt.After(got[0].at); {
					case !a.StartsAt.Equal(began), standing != (a.Labels["participant"] == "seats"), !standing && !a.EndsAt.Equal(over):
						t.Errorf("told %v", a)
					}
				}
				if n.logged("takes alerts again") != 1 || n.count[ResultTaken] != 1 || n.count[ResultFailed] != len(tried) {
					t.Errorf("counted %v, logged\n%s", n.count, n.logs)
				}
				if left := book.Show(); len(left) != 1 || left[0].State != Told {
					t.Errorf("the book keeps %v", left)
				}
			})
		})
	}
}

// A receiver that refuses is an error of the configuration: said as such, once.
func TestReceiverRefuses(t *testing.T) {
	for name, status := range map[string]int{"bad request": 400, "no access": 403, "not found": 404, "moved": 307} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(t)
				defer r.stop()
				r.answer(status)
				book := OpenLocal(LocalConfig{Tells: true})
				n := tells(t, r.webhook("http://ann:secret-word@alertmanager:9093/api/v2/alerts?key=secret-word"), book, nil)
				defer n.stop()
				book.Raise(undelivered("seats", "a"))
				time.Sleep(time.Minute)
				if got := len(r.attempts()); got < 5 || got > 15 || n.count[ResultRefused] != got {
					t.Errorf("tried %d times, counted %v", got, n.count)
				}
				if n.logged("[ERROR]") != 1 || n.logged(fmt.Sprint(status)) != 1 || n.logged("secret-word") != 0 {
					t.Errorf("logged\n%s", n.logs)
				}
				r.answer(http.StatusOK)
				time.Sleep(20 * time.Second)
				wantTold(t, r, "firing")
			})
		})
	}
}

// A receiver that hangs is given up after a while, and nobody posts beside.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		release := r.hold()
		w := r.webhook(receiverURL)
		var books []*Local
		var all []*teller
		for _, name := range []string{"seats", "payments"} { // as a node tells of itself and of the cluster
			book := OpenLocal(LocalConfig{Tells: true})
			book.Raise(undelivered(name, "a"))
			books, all = append(books, book), append(all, tells(t, w, book, nil))
		}
		defer all[1].stop()
		defer all[0].stop()
		time.Sleep(time.Minute)
		tried := r.attempts()
		if len(tried) < 6 {
			t.Errorf("%d POSTs in a minute", len(tried))
		}
		for i := 1; i < len(tried); i++ { // each takes postTimeout, so those nearer were beside each other
			if gap := tried[i].Sub(tried[i-1]); gap < postTimeout {
				t.Errorf("POST %d came %s after the one before", i, gap)
			}
		}
		release()
		time.Sleep(30 * time.Second)
		wantTold(t, r, "firing", "firing")
		for _, book := range books {
			if left := book.Show(); len(left) != 1 || left[0].State != Told {
				t.Errorf("the book keeps %v", left)
			}
		}
	})
}

// A POST that hangs does not keep a process from ending.
func TestEndsWhileThePostHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		defer r.hold()()
		book := OpenLocal(LocalConfig{Tells: true})
		n := tells(t, r.webhook(receiverURL), book, nil)
		book.Raise(undelivered("seats", "a"))
		r.attempts()
		began := time.Now()
		n.stop()
		if took := time.Since(began); took != 0 || n.count[ResultFailed] != 0 || n.logged("[") != 0 {
			t.Errorf("ended after %s, counted %v, logged\n%s", took, n.count, n.logs)
		}
		if left := book.Show(); len(left) != 1 || left[0].State != Raised {
			t.Errorf("the book keeps %v", left)
		}
	})
}

// It comes again while it is told that it is over: it stands, and they are told so.
func TestComesAgainWhileItsEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		book := OpenLocal(LocalConfig{Tells: true})
		n := tells(t, r.webhook(receiverURL), book, nil)
		defer n.stop()
		book.Raise(undelivered("seats", "a"))
		wantTold(t, r, "firing")
		time.Sleep(time.Second)
		release := r.hold()
		book.Resolve("undelivered", "seats")
		r.attempts()
		time.Sleep(time.Second)
		again := time.Now()
		book.Raise(undelivered("seats", "b"))
		release()
		wantTold(t, r, "firing", "resolved", "firing")
		if last := r.took()[2].alerts[0]; !last.StartsAt.Equal(again) || last.Annotations["transactions"] != "b" {
			t.Errorf("told %v", last)
		}
		if left := book.Show(); len(left) != 1 || left[0].State != Told || !left[0].StartsAt.Equal(again) {
			t.Errorf("the book keeps %v", left)
		}
	})
}

// Many alerts travel in bodies of a bounded size, and a body that is not taken
// does not make those before it be told again.
func TestManyAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		book := OpenLocal(LocalConfig{Tells: true})
		for i := range 250 {
			book.Raise(largest(fmt.Sprintf("p-%03d", i)))
		}
		n := tells(t, r.webhook(receiverURL), book, func(c *Config) {
			count := c.Count
			c.Count = func(result string) {
				if count(result); result == ResultTaken {
					r.answer(http.StatusInternalServerError)
				}
			}
		})
		defer n.stop()
		for posts := range 3 { // it goes away after each
			if got := r.took(); len(got) != posts+1 {
				t.Fatalf("%d bodies taken, want %d", len(got), posts+1)
			}
			time.Sleep(retryMin)
			r.answer(http.StatusOK)
			time.Sleep(5 * retryMin)
		}
		got := r.took()
		seen := map[string]int{}
		for _, p := range got {
			if len(p.alerts) > maxPost || len(p.raw) > 1<<20 {
				t.Errorf("a body of %d alerts and %d bytes", len(p.alerts), len(p.raw))
			}
			for _, a := range p.alerts {
				seen[a.Labels["participant"]]++
			}
		}
		if len(got) != 3 || len(seen) != 250 || n.count[ResultFailed] == 0 {
			t.Errorf("%d of 250 told in %d bodies; counted %v", len(seen), len(got), n.count)
		}
	})
}

// Whoever may no longer tell does not, and does not spin while that is so.
func TestNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		var mu sync.Mutex
		asked, deposed := 0, false
		book := OpenLocal(LocalConfig{Tells: true})
		n := tells(t, r.webhook(receiverURL), book, func(c *Config) {
			c.Confirm = func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				asked++
				if deposed {
					return errors.New("somebody else leads")
				}
				return nil
			}
		})
		defer n.stop()
		book.Raise(undelivered("seats", "a"))
		wantTold(t, r, "firing")
		mu.Lock()
		deposed = true
		mu.Unlock()
		time.Sleep(DefaultRepeat + time.Minute) // the repeat is due
		wantTold(t, r, "firing")
		mu.Lock()
		if asked > 500 {
			t.Errorf("asked %d times in a minute", asked)
		}
		deposed = false
		mu.Unlock()
		time.Sleep(time.Second)
		wantTold(t, r, "firing", "firing")
	})
}

// forgetful is a book that cannot note what was told, as without a quorum.
type forgetful struct {
	*Local
	mu    sync.Mutex
	fails bool
	tried int
}

func (f *forgetful) Told(ctx context.Context, items []Item) error {
	f.mu.Lock()
	f.tried++
	fails := f.fails
	f.mu.Unlock()
	if fails {
		return errors.New("no quorum")
	}
	return f.Local.Told(ctx, items)
}

func (f *forgetful) set(fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = fails
}

// What was told and could not be noted is noted later, and not told again.
func TestToldButNotNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		book := &forgetful{Local: OpenLocal(LocalConfig{Tells: true}), fails: true}
		n := tells(t, r.webhook(receiverURL), book, nil)
		defer n.stop()
		state := func() (s State) {
			synctest.Wait()
			for _, i := range book.Show() {
				s = i.State
			}
			return s
		}
		book.Raise(undelivered("seats", "a"))
		time.Sleep(30 * time.Second)
		wantTold(t, r, "firing")
		if got := state(); got != Raised || book.tried > 40 {
			t.Errorf("state %d after %d tries", got, book.tried)
		}
		book.set(false)
		time.Sleep(lookEvery)
		if got := state(); got != Told {
			t.Errorf("state %d", got)
		}
		book.set(true)
		book.Resolve("undelivered", "seats")
		time.Sleep(5 * DefaultRepeat)
		wantTold(t, r, "firing", "resolved")
		book.set(false)
		time.Sleep(lookEvery)
		if got := state(); got != 0 {
			t.Errorf("state %d", got)
		}
		time.Sleep(5 * DefaultRepeat)
		wantTold(t, r, "firing", "resolved")
	})
}

// Raised and over before anybody was told: the end alone is told, once.
func TestOverBeforeItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		book := OpenLocal(LocalConfig{Tells: true})
		book.Raise(undelivered("seats", "a"))
		time.Sleep(time.Second)
		book.Resolve("undelivered", "seats")
		n := tells(t, r.webhook(receiverURL), book, nil)
		defer n.stop()
		time.Sleep(time.Hour)
		wantTold(t, r, "resolved")
	})
}

func TestCheckRepeat(t *testing.T) {
	for d, ok := range map[time.Duration]bool{
		0: false, -time.Second: false, minRepeat - 1: false, minRepeat: true, DefaultRepeat: true, maxRepeat: true, maxRepeat + 1: false,
	} {
		if err := CheckRepeat("repeat", d); (err == nil) != ok {
			t.Errorf("%s: %v", d, err)
		}
	}
}
