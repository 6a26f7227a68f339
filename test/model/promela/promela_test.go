package promela

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var (
	full   = flag.Bool("full", false, "the large searches too: about an hour on 2 cores")
	update = flag.Bool("update", false, "write counterexamples.md, the table in docs/protocol.md and the corpus anew")
)

// turns has room for two: a search takes a core.
var turns = make(chan struct{}, 2)

// trails are the counter-examples that were found, by the name of the check.
var trails struct {
	sync.Mutex
	found map[string][]Event
}

func TestMain(m *testing.M) {
	flag.Parse()
	trails.found = map[string][]Event{}
	os.Exit(m.Run())
}

// TestModels: the models hold, what they shall reach is reached, and each rule
// that is switched off yields a counter-example.
func TestModels(t *testing.T) {
	requireSpin(t)
	t.Run("all", func(t *testing.T) {
		for _, c := range checks {
			if c.full && !*full {
				continue
			}
			t.Run(c.name(), func(t *testing.T) {
				t.Parallel()
				turns <- struct{}{}
				defer func() { <-turns }()
				c.test(t)
			})
		}
	})
	compareExamples(t)
}

func (c check) test(t *testing.T) {
	r, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states, %d errors %s", r.states, r.errors, r.found)
	if c.want == holds {
		if !r.holds() {
			t.Fatalf("does not hold, or was not searched to the end (%s):\n%s", r.incomplete, r.output)
		}
		return
	}
	finds := map[want]string{
		breaks: "assertion violated", reaches: "assertion violated", deadlock: "invalid end state", cycle: "acceptance cycle",
	}
	if !r.violated() || r.found != finds[c.want] {
		t.Fatalf("found %q, want %q:\n%s", r.found, finds[c.want], r.output)
	}
	if c.want == reaches {
		return
	}
	t.Logf("%s\n%s", c.story, listing(r.trail))
	trails.Lock()
	defer trails.Unlock()
	trails.found[c.name()] = r.trail
}

func listing(trail []Event) string {
	var b strings.Builder
	for _, e := range trail {
		b.WriteString("    " + e.String() + "\n")
	}
	return b.String()
}

// TestJudge: only a search that came to its end without an error holds.
func TestJudge(t *testing.T) {
	const end = "State-vector 92 byte, depth reached 112, errors: 0\n   405075 states, stored\n"
	tests := map[string]struct {
		out             string
		holds, violated bool
		fails           bool
	}{
		"to the end":      {out: end, holds: true},
		"nothing":         {out: "", fails: true},
		"killed":          {out: "Depth=  112 States= 1e+06 Transitions= 1e+06\n", fails: true},
		"no states":       {out: "errors: 0\n", fails: true},
		"too deep":        {out: "error: max search depth too small\n" + end},
		"out of memory":   {out: "pan: out of memory\n" + end},
		"cut":             {out: "Warning: Search not completed\n" + end},
		"memory limit":    {out: "pan: reached -DMEMLIM bound\n" + end},
		"an assertion":    {out: "pan:1: assertion violated 0 (at depth 3)\n" + strings.Replace(end, "errors: 0", "errors: 1", 1), violated: true},
		"another trouble": {out: strings.Replace(end, "errors: 0", "errors: 1", 1)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := judge(test.out)
			if (err != nil) != test.fails {
				t.Fatalf("judge: %v", err)
			}
			r.trail = []Event{{Kind: "submit"}}
			if err == nil && (r.holds() != test.holds || r.violated() != test.violated) {
				t.Errorf("holds %v, violated %v", r.holds(), r.violated())
			}
		})
	}
}

// TestUnknownFlag: a misspelt switch changes nothing in a model, so it is refused.
func TestUnknownFlag(t *testing.T) {
	requireSpin(t)
	if _, _, err := open("locks", []string{"-DBUG_P12_NO_SUCH"}); err == nil {
		t.Error("a flag that the model does not know is taken")
	}
}

// TestEverySwitchIsUsed: each switch of each model has a check, and no two
// checks have one name.
func TestEverySwitchIsUsed(t *testing.T) {
	used, names := map[string]bool{}, map[string]bool{}
	for _, c := range checks {
		for _, flag := range c.flags {
			used[c.model+" "+strings.TrimPrefix(flag, "-D")] = true
		}
		key := c.name() + c.claim + strings.Join(c.flags, " ")
		if names[key] {
			t.Errorf("two checks %s", key)
		}
		names[key] = true
	}
	entries, err := models.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, entry := range entries {
		text, err := models.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range switches(string(text)) {
			n++
			if !used[strings.TrimSuffix(entry.Name(), ".pml")+" "+name] {
				t.Errorf("%s: nothing uses %s", entry.Name(), name)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d switches found", n)
	}
}

// switches are the conditions of a model that turn a rule off or look for a situation.
func switches(text string) []string {
	var list []string
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z')
	}) {
		if (strings.HasPrefix(word, "BUG_P") || strings.HasPrefix(word, "REACH")) && !strings.HasSuffix(word, "_") {
			list = append(list, word)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func requireSpin(t *testing.T) {
	t.Helper()
	if err := tools(); err != nil {
		t.Fatal(err)
	}
}

// sameSpin reports whether this is the spin that the committed trails and
// walks are from; another one may find others.
func sameSpin(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("spin", "-V").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	same := strings.Contains(string(out), "6.5.2")
	if !same {
		t.Logf("this is %s: trails are not compared", strings.TrimSpace(string(out)))
	}
	return same
}

func walkNamed(t *testing.T, s Schedule) (Schedule, error) {
	t.Helper()
	seed, err := strconv.Atoi(strings.TrimPrefix(s.Name, "walk-"))
	if err != nil {
		t.Fatal(err)
	}
	return Walk(t.Context(), s.Model, seed, s.Flags...)
}
