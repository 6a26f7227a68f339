package alerting

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// What a process was told or not before it died, the next one goes on from.
func TestRestart(t *testing.T) {
	for _, tc := range []struct {
		name string
		// before is what happens in the first process, after in the second; taken:
		// the receiver listens to the first.
		taken         bool
		before, after func(*Local)
		// first and then are what it is told by each.
		first, then []string
	}{
		{name: "told, and stands", taken: true, first: []string{"firing"}},
		{name: "not told, and stands", then: []string{"firing"}},
		{
			name: "told, and over before", taken: true, before: func(b *Local) { b.Resolve("undelivered", "seats") },
			first: []string{"firing", "resolved"},
		},
		{name: "not told, and over before", before: func(b *Local) { b.Resolve("undelivered", "seats") }, then: []string{"resolved"}},
		{
			name: "told, and over after", taken: true, after: func(b *Local) { b.Resolve("undelivered", "seats") },
			first: []string{"firing"}, then: []string{"resolved"},
		},
		{
			name: "told, and found again after", taken: true, after: func(b *Local) { b.Raise(undelivered("seats", "a", "b")) },
			first: []string{"firing"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "alerts.json")
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(t)
				defer r.stop()
				if !tc.taken {
					r.answer(0)
				}
				process := func(what func(*Local)) (stop func()) {
					book := OpenLocal(LocalConfig{Path: path, Tells: true})
					n := tells(t, r.webhook(receiverURL), book, nil)
					if what != nil {
						what(book)
					}
					synctest.Wait()
					return n.stop
				}
				began := time.Now()
				stop := process(func(b *Local) {
					b.Raise(undelivered("seats", "a"))
					if time.Sleep(time.Second); tc.before != nil {
						tc.before(b)
						time.Sleep(time.Second)
					}
				})
				stop()
				wantTold(t, r, tc.first...)
				time.Sleep(10 * time.Second)
				r.answer(200)
				defer process(tc.after)()
				time.Sleep(DefaultRepeat / 2)
				wantTold(t, r, append(tc.first, tc.then...)...)
				for _, p := range r.took() {
					if !p.alerts[0].StartsAt.Equal(began) || p.alerts[0].Labels["cluster"] != "c1" {
						t.Errorf("told %v, it began at %s", p.alerts[0], began)
					}
				}
			})
		})
	}
}

// A file that makes no sense costs what it held, said once, and nothing else.
func TestBadFile(t *testing.T) {
	good := `{"kind":"disk_reserve","severity":2,"source":"node/n1","starts_at":"2026-03-01T12:00:00Z","summary":"s","action":"a","state":2}`
	for name, tc := range map[string]struct {
		text  string
		items int
	}{
		"good":           {`{"format":1,"alerts":[` + good + `]}`, 1},
		"empty":          {"", -1},
		"cut":            {`{"format":1,"alerts":[` + good, -1},
		"another format": {`{"format":2,"alerts":[]}`, -1},
		"no kind":        {`{"format":1,"alerts":[` + strings.Replace(good, "disk_reserve", "", 1) + `]}`, -1},
		"no state":       {`{"format":1,"alerts":[` + strings.Replace(good, `"state":2`, `"state":0`, 1) + `]}`, -1},
		"a state of old": {`{"format":1,"alerts":[` + strings.Replace(good, `"state":2`, `"state":4`, 1) + `]}`, -1},
		"no start":       {`{"format":1,"alerts":[` + strings.Replace(good, "2026-03-01T12", "0001-01-01T00", 1) + `]}`, -1},
		"too long":       {`{"format":1,"alerts":[` + good + `]}` + strings.Repeat(" ", maxFile) + "x", -1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "alerts.json")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var logs bytes.Buffer
			b := OpenLocal(LocalConfig{Path: path, Tells: true, Logger: hclog.New(&hclog.LoggerOptions{Output: &logs})})
			warned := strings.Contains(logs.String(), "cannot be read")
			if got := len(b.Show()); got != max(tc.items, 0) || warned != (tc.items < 0) {
				t.Errorf("%d items; logged %s", got, &logs)
			}
			if !b.Raise(undelivered("seats", "x")) {
				t.Error("it stood already")
			}
			b.List()
			if again := OpenLocal(LocalConfig{Path: path, Tells: true}); len(again.Show()) != max(tc.items, 0)+1 {
				t.Errorf("after a restart: %v", again.Show())
			}
		})
	}
}

// A disk that does not take the file keeps nobody from being told, is said
// once, and gets it when it does again.
func TestDiskRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(t)
		defer r.stop()
		var logs bytes.Buffer
		path := filepath.Join(dir, "alerts.json")
		book := OpenLocal(LocalConfig{Path: path, Tells: true, Logger: hclog.New(&hclog.LoggerOptions{Output: &logs})})
		defer tells(t, r.webhook(receiverURL), book, nil).stop()
		book.Raise(undelivered("seats", "a"))
		time.Sleep(5 * time.Second)
		wantTold(t, r, "firing")
		if got := strings.Count(logs.String(), "cannot be written"); got != 1 {
			t.Errorf("logged\n%s", &logs)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if again := OpenLocal(LocalConfig{Path: path, Tells: true}).Show(); len(again) != 1 || again[0].State != Told {
			t.Errorf("on disk: %v", again)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("files: %v", left)
		}
	})
}

// Details of what stands are as of now; those of what is over as they were last.
func TestRefresh(t *testing.T) {
	known := "a"
	b := OpenLocal(LocalConfig{Tells: true, Refresh: func(a *Alert) {
		a.Transactions, a.Count, a.Retries = []string{known}, 1, a.Retries+1
	}})
	b.Raise(undelivered("seats", "old"))
	for _, known = range []string{"a", "b"} {
		if got := b.Show()[0]; !slices.Equal(got.Transactions, []string{known}) {
			t.Errorf("shown %v, want %s", got.Transactions, known)
		}
	}
	b.Resolve("undelivered", "seats")
	known = "c"
	if got := b.Show()[0]; !slices.Equal(got.Transactions, []string{"b"}) || got.Standing() {
		t.Errorf("over: %v", got)
	}
}

// Without anybody to tell, what is over is gone, and no file is written.
func TestNobodyToTell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alerts.json")
	b := OpenLocal(LocalConfig{Path: path})
	if !b.Raise(undelivered("seats", "a")) || b.Raise(undelivered("seats", "b")) {
		t.Error("raised twice")
	}
	if list := b.List(); len(list) != 1 || fmt.Sprint(list[0].Transactions) != "[b]" {
		t.Errorf("shown %v", list)
	}
	if _, stood := b.Resolve("undelivered", "seats"); !stood || len(b.List()) != 0 {
		t.Errorf("shown %v", b.List())
	}
	if _, stood := b.Resolve("undelivered", "seats"); stood {
		t.Error("resolved twice")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file: %v", err)
	}
}
