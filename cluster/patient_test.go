package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// TestPatientCommandWaitsForItsNext: a command that another one follows sooner
// than an entry is written shares its entry, stands before it there, and waits for
// it no longer than an entry takes.
func TestPatientCommandWaitsForItsNext(t *testing.T) {
	const entryTime, soon, late = 10 * time.Millisecond, time.Millisecond, 11 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		p, l := proposerInBubble(t, nil)
		var answered []string
		propose := func(id string, next time.Duration) {
			p.proposeThen(&fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: &fsmpb.Refuse{Id: id}}}, next, func(_ fsm.Result, err error) {
				answered = append(answered, fmt.Sprint(id, err))
			})
			synctest.Wait()
		}
		flies := func(what string, want bool) {
			t.Helper()
			if synctest.Wait(); (p.flyingNow() > 0) != want {
				t.Fatalf("%s: an entry flies: %t, want %t", what, !want, want)
			}
		}
		lands := func() {
			<-time.After(entryTime)
			l.gate <- nil
			synctest.Wait()
		}
		// Nobody knows how long an entry takes: this one does not wait.
		propose("a", soon)
		flies("the first", true)
		lands()
		propose("b", soon)
		flies("a patient one", false)
		propose("c", soon)
		<-time.After(soon)
		flies("two patient ones", false)
		propose("B", 0)
		flies("what follows", true)
		lands()
		if got := fmt.Sprint(l.sizes()); got != "[1 3]" {
			t.Fatalf("commands per entry %s, want [1 3]", got)
		}
		if got := fmt.Sprint(answered); got != "[a<nil> b<nil> c<nil> B<nil>]" {
			t.Fatalf("answers %s", got)
		}

		propose("d", late)
		flies("one whose next comes late", true)
		lands()
		propose("e", soon)
		<-time.After(entryTime - time.Millisecond)
		flies("one that waits for an entry's time", false)
		<-time.After(time.Millisecond)
		flies("one that has waited for an entry's time", true)
		lands()

		// What is taken back calls for nothing any more.
		propose("h", 0)
		propose("f", soon)
		ctx, cancel := context.WithCancel(t.Context())
		g := inBackground(ctx, p, "g")
		cancel()
		if err := <-g; !errors.Is(err, ErrWithdrawn) {
			t.Fatal(err)
		}
		l.gate <- nil
		flies("a patient one, when what called for an entry was taken back", false)
		<-time.After(entryTime)
		flies("the same in its own time", true)
		l.gate <- nil
	})
}

func (p *proposer) flyingNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying
}
