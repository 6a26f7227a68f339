package durable

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// stops holds the writes of a checkpoint that runs beside batches, one by one.
type stops struct{ asked, passed chan struct{} }

// sync is Options.Sync.
func (s *stops) sync(write func() error) error {
	if strings.Contains(string(debug.Stack()), "moveToPages") {
		s.asked <- struct{}{}
		<-s.passed
	}
	return write()
}

func besideFile(t *testing.T) (*File, *stops) {
	t.Helper()
	gate := &stops{asked: make(chan struct{}), passed: make(chan struct{})}
	s, err := Open(filepath.Join(t.TempDir(), "file.db"), Options{
		Kind: "test", CheckRecord: func(string, []byte) error { return nil },
		Fatal: func(err error) { t.Errorf("fatal: %v", err) }, Sync: gate.sync, LogBytes: 4 * logHeader,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, gate
}

// TestBatchesGoOnBesideACheckpoint: it is held up before its pages are written, and
// before its half of the log is cleared; meanwhile batches are written and read, and
// what a crash would leave is all there.
func TestBatchesGoOnBesideACheckpoint(t *testing.T) {
	s, gate := besideFile(t)
	random := rand.New(rand.NewPCG(3, 4))
	model := map[string]string{}
	batches := 0
	some := func() {
		t.Helper()
		for range 4 {
			batches++
			var batch []string
			for range 3 {
				id := fmt.Sprintf("k%02d", random.IntN(30))
				if random.IntN(4) == 0 {
					delete(model, id)
					batch = append(batch, id)
					continue
				}
				model[id] = fmt.Sprintf("%d%s", batches, strings.Repeat("v", random.IntN(200)))
				batch = append(batch, id+"="+model[id])
			}
			put(t, s, batch...)
		}
	}
	all := func() string {
		var list []string
		for _, id := range slices.Sorted(maps.Keys(model)) {
			list = append(list, id+"="+model[id])
		}
		return strings.Join(list, " ")
	}
	stages, halves := 0, map[int]bool{}
	held := func(cleared bool) {
		t.Helper()
		stages++
		for range 2 {
			some()
			if got := contents(t, s); got != all() {
				t.Fatalf("stage %d: %.200s, want %.200s", stages, got, all())
			}
		}
		pages, log := crashed(t, s.Path())
		if cleared { // some of it, when the crash came
			full := &s.log.halves[1-s.log.now]
			for at := full.from + logHeader; at < full.end; at += sector {
				if random.IntN(2) == 0 {
					clear(log[at:min(at+sector, full.end)])
				}
			}
		}
		r, err := reopen(t, pages, log)
		if err != nil {
			t.Fatalf("stage %d: %v", stages, err)
		}
		if got := contents(t, r); got != all() {
			t.Fatalf("stage %d, after a crash: %.200s, want %.200s", stages, got, all())
		}
		put(t, r, "later=1")
		closed(t, r)
		halves[s.log.now] = true
	}
	for range 12 {
		for {
			some()
			if s.over.Load().below.Load() != nil { // the halves have changed: it is about to ask
				break
			}
		}
		<-gate.asked
		held(false)
		gate.passed <- struct{}{}
		<-gate.asked
		held(true)
		gate.passed <- struct{}{}
	}
	if stages != 24 || len(halves) != 2 {
		t.Errorf("%d stages, halves %v", stages, halves)
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case <-gate.asked:
				gate.passed <- struct{}{}
			case <-s.committer.done:
				return
			}
		}
	}()
	closed(t, s)
	<-finished
	r, err := reopen(t, read(t, s.Path()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, r); got != all() {
		t.Errorf("closed: %s, want %s", got, all())
	}
	closed(t, r)
}
