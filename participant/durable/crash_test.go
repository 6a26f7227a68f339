package durable

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// crashes is a machine that may lose power in any durable write: it opens what would
// be left of the file and its log, and compares that with what callers were told.
type crashes struct {
	t      *testing.T
	path   string
	random *rand.Rand
	opened map[string]int // by what was written

	writing sync.Mutex // one durable write at a time, so that what is beside it is known

	mu            sync.Mutex // guards what follows
	before, after string     // without the batch that nobody was told of yet, and with it
}

// sync is Options.Sync.
func (c *crashes) sync(write func() error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	allowed := []string{c.before, c.after}
	c.mu.Unlock()
	log, _ := os.ReadFile(logPath(c.path)) // there is none before the first batch
	pages := read(c.t, c.path)
	if err := write(); err != nil {
		return err
	}
	newLog, newPages := read(c.t, logPath(c.path)), read(c.t, c.path)
	if log == nil {
		return nil // the crash tests of whole programs have that
	}
	moved := !bytes.Equal(pages, newPages)
	kind := "log"
	switch cleared := bytes.Count(newLog, []byte{0}) > bytes.Count(log, []byte{0}); {
	case moved && cleared:
		kind = "both"
	case moved:
		kind = "pages"
	case cleared:
		kind = "clear"
	}
	if moved {
		c.left(kind, c.torn(pages, newPages, os.Getpagesize(), 2), log, allowed)
		c.left(kind, newPages, log, allowed)
	}
	c.left(kind, newPages, c.torn(log, newLog, sector, 0), allowed)
	return nil
}

// torn has some of the blocks of before as they are after, but for the first few.
func (c *crashes) torn(before, after []byte, size, first int) []byte {
	b := bytes.Clone(before)
	if c.random.IntN(2) == 0 && len(after) > len(b) {
		b = append(b, make([]byte, len(after)-len(b))...)
	}
	for at := first * size; at < min(len(b), len(after)); at += size {
		// A header is written when all else is.
		if c.random.IntN(2) == 0 && at%(4*logHeader) != 0 {
			copy(b[at:min(at+size, len(b))], after[at:])
		}
	}
	return b
}

// left opens what a crash left, twice: the second crash comes before the log is clear.
func (c *crashes) left(kind string, pages, log []byte, allowed []string) {
	c.t.Helper()
	c.opened[kind]++
	for n := range 2 {
		s, err := reopen(c.t, pages, log)
		if err != nil {
			c.t.Errorf("%s, crash %d: %v", kind, n+1, err)
			return
		}
		got := contents(c.t, s)
		if !slices.Contains(allowed, got) {
			c.t.Errorf("%s, crash %d: %.300s, want one of %.300q", kind, n+1, got, allowed)
		}
		allowed = []string{got}
		newPages, newLog := crashed(c.t, s.Path())
		pages, log = newPages, c.torn(log, newLog, sector, 0)
		closed(c.t, s)
	}
}

// TestCrashInAnyWrite: a batch that was answered is there, whatever of the write under
// way the disk has, and the participant starts.
func TestCrashInAnyWrite(t *testing.T) {
	c := &crashes{t: t, path: filepath.Join(t.TempDir(), "file.db"), random: rand.New(rand.NewPCG(5, 6)), opened: map[string]int{}}
	s, err := Open(c.path, Options{
		Kind: "test", CheckRecord: func(string, []byte) error { return nil },
		Fatal: func(err error) { t.Errorf("fatal: %v", err) }, Sync: c.sync, LogBytes: 4 * logHeader,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true // the power fails here, not there
	random := rand.New(rand.NewPCG(7, 8))
	model := map[string]string{}
	for n := range 40 {
		longest := 1500
		if n%13 == 12 {
			longest = 20_000 // too large for the log
		}
		var batch []string
		for range 3 {
			id := fmt.Sprintf("k%02d", random.IntN(12))
			delete(model, id)
			if random.IntN(4) > 0 {
				model[id] = fmt.Sprintf("%d%s", n, strings.Repeat("v", longest-random.IntN(longest/2)))
				id += "=" + model[id]
			}
			batch = append(batch, id)
		}
		var all []string
		for _, id := range slices.Sorted(maps.Keys(model)) {
			all = append(all, id+"="+model[id])
		}
		c.mu.Lock()
		c.after = strings.Join(all, " ")
		c.mu.Unlock()
		put(t, s, batch...)
		c.mu.Lock()
		c.before = c.after
		c.mu.Unlock()
	}
	closed(t, s)
	for _, kind := range []string{"log", "pages", "clear", "both"} {
		if c.opened[kind] == 0 {
			t.Errorf("no crash in a write of %s", kind)
		}
	}
}
