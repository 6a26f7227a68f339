package durable

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestPointsInTime: what a reader sees is one state, whatever is written and
// moved to the pages meanwhile, and never an older one than it saw before.
func TestPointsInTime(t *testing.T) {
	// Of the shorter ones a few make a checkpoint; some of the longer ones fit into no log.
	t.Run("beside batches", func(t *testing.T) { pointsInTime(t, logBytes/40) })
	t.Run("at once", func(t *testing.T) { pointsInTime(t, logBytes/10) })
}

func pointsInTime(t *testing.T, step int) {
	s := testFile(t, filepath.Join(t.TempDir(), "file.db"))
	value := func(n int) string { return fmt.Sprintf("%06d", n) + strings.Repeat("x", n%7*step) }
	put(t, s, "first="+value(0), "last="+value(0))
	const batches = 60
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			seen, views := "", 0
			for more := true; more; views++ {
				select {
				case <-done:
					more = false
				default:
				}
				err := s.View(func(p *Pages) error {
					first, err := p.Record("first")
					if err != nil {
						return err
					}
					last, err := p.Record("last")
					if string(first.Tail) != string(last.Tail) {
						t.Errorf("two states in one: %.6s and %.6s", first.Tail, last.Tail)
					}
					if now := string(first.Tail[:6]); now < seen {
						t.Errorf("%s after %s", now, seen)
					} else {
						seen = now
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			if views == 0 || seen != fmt.Sprintf("%06d", batches) {
				t.Errorf("%d views, the last of %s", views, seen)
			}
		})
	}
	began := s.over.Load()
	for n := 1; n <= batches; n++ {
		put(t, s, "first="+value(n), "last="+value(n))
	}
	if s.over.Load() == began {
		t.Error("there was no checkpoint")
	}
	close(done)
	readers.Wait()
}

// TestPointOutlivesCheckpoints: a reader that takes its time keeps its state.
func TestPointOutlivesCheckpoints(t *testing.T) {
	s := testFile(t, filepath.Join(t.TempDir(), "file.db"))
	put(t, s, "a=1", "b=1")
	put(t, s, "a=2")
	var points []*Point
	var want []string
	for i := range 12 {
		at, err := s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		points, want = append(points, at), append(want, contents(t, s))
		put(t, s, fmt.Sprintf("a=%d%s", i, strings.Repeat("y", logBytes/5)), fmt.Sprintf("k%02d=1", i))
		if i%3 == 0 {
			put(t, s, "b")
		} else {
			put(t, s, "b=again")
		}
	}
	for i, at := range points {
		if got := contentsAt(t, s, at); got != want[i] {
			t.Errorf("point %d: %.40s, was %.40s", i, got, want[i])
		}
	}
}

// TestCursorMerges compares pages and overlay together with a map.
func TestCursorMerges(t *testing.T) {
	s := testFile(t, filepath.Join(t.TempDir(), "file.db"))
	random := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for round := range 40 {
		var batch []string
		for range random.IntN(6) + 1 {
			id := fmt.Sprintf("k%02d", random.IntN(40))
			if random.IntN(3) == 0 {
				delete(model, id)
				batch = append(batch, id)
			} else {
				model[id] = fmt.Sprint(round)
				batch = append(batch, id+"="+model[id])
			}
		}
		put(t, s, batch...)
		if round%10 == 9 { // to the pages
			closed(t, s)
			s = testFile(t, s.Path())
		}
		from := fmt.Sprintf("k%02d", random.IntN(41))
		var got, want []string
		err := s.View(func(p *Pages) error {
			cursor := p.Cursor(bucketJournal)
			for key, sealed := cursor.Seek([]byte(from)); key != nil; key, sealed = cursor.Next() {
				b, err := p.Open(bucketJournal, key, sealed)
				if err != nil {
					return err
				}
				r, err := p.readRecord(string(key), b)
				if err != nil {
					return err
				}
				got = append(got, string(key)+"="+string(r.Tail))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range slices.Sorted(maps.Keys(model)) {
			if id >= from {
				want = append(want, id+"="+model[id])
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d, from %s: %v, want %v", round, from, got, want)
		}
	}
}

// TestBatchLargerThanTheLog goes to the pages at once.
func TestBatchLargerThanTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	put(t, s, "a=1")
	put(t, s, "b=1")
	large := strings.Repeat("z", logBytes)
	put(t, s, "a="+large, "c=1")
	put(t, s, "d=1")
	pages, log := crashed(t, path)
	if len(log) > 2*logBytes {
		t.Errorf("the log has %d bytes", len(log))
	}
	r, err := reopen(t, pages, log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, r), "a="+large+" b=1 c=1 d=1"; got != want || contents(t, s) != want {
		t.Errorf("%.20s of %d bytes, want %d", got, len(got), len(want))
	}
	closed(t, r)
}

// TestBatchSeesItself: a write of a batch is judged by what those before it did.
func TestBatchSeesItself(t *testing.T) {
	s := testFile(t, filepath.Join(t.TempDir(), "file.db"))
	put(t, s, "a=1")
	err := s.Submit(t.Context(), func(p *Pages) error {
		if err := p.PutRecord("a", Record{Tail: []byte("2")}); err != nil {
			return err
		}
		if r, err := p.Record("a"); err != nil || string(r.Tail) != "2" {
			t.Errorf("%q, %v", r.Tail, err)
		}
		if err := p.PutRecord("a", Record{}); err != nil {
			return err
		}
		if r, err := p.Record("a"); err != nil || r.Tail != nil {
			t.Errorf("%q, %v", r.Tail, err)
		}
		return p.PutRecord("b", Record{Tail: []byte("3")})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, s); got != "b=3" {
		t.Error(got)
	}
}
