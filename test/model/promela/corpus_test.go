package promela

import (
	"bytes"
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// source is where schedules of the corpus come from: as many walks with flags.
type source struct {
	model string
	flags []string
	keep  int
}

var sources = []source{
	{"attempts", defines("WALK MAXATT=3 MAXLATE=0"), 60},
	{"attempts", defines("WALK CALM MAXATT=3 MAXLATE=0"), 60},
	{"attempts", defines("WALK MAXATT=3 MAXLATE=1"), 30},
	{"floor", defines("LIVE MAXATT=3"), 60},
}

// seeds is how many walks the corpus is chosen from, for each source.
const seeds = 200

// TestCorpus: the committed schedules are what the models make.
func TestCorpus(t *testing.T) {
	if *update {
		makeCorpus(t)
	}
	list := Corpus()
	if *update { // what is embedded is what was there before
		raw, err := os.ReadFile("testdata/corpus.txt")
		if err != nil {
			t.Fatal(err)
		}
		if list, err = readCorpus(bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
	}
	names, kinds, broken := map[string]bool{}, map[string]int{}, 0
	for _, s := range list {
		key := s.Model + " " + s.Name + " " + strings.Join(s.Flags, " ")
		if names[key] {
			t.Errorf("%s is there twice", key)
		}
		names[key] = true
		if s.Broken() {
			broken++
		}
		for _, e := range s.Events {
			kinds[s.Model+" "+e.Kind]++
		}
	}
	if len(list) < 200 || broken < 20 {
		t.Errorf("%d schedules, %d counter-examples", len(list), broken)
	}
	for _, want := range []string{
		"attempts submit", "attempts apply", "attempts elect", "attempts execute", "attempts prepared", "attempts vote",
		"attempts takeover", "attempts refuse", "attempts crash", "attempts tombstone", "attempts commit", "attempts rollback",
		"attempts ack", "attempts answer", "attempts tell", "attempts gone", "attempts again", "attempts late", "attempts propose",
		"floor drop", "floor floor", "floor commit", "floor arrives",
	} {
		if kinds[want] < 3 {
			t.Errorf("%d times %s", kinds[want], want)
		}
	}
}

// TestCorpusIsOfTheModels makes some schedules again.
func TestCorpusIsOfTheModels(t *testing.T) {
	requireSpin(t)
	list := Corpus()
	for i := 0; i < len(list); i += len(list)/8 + 1 {
		want := list[i]
		var got Schedule
		var err error
		if want.Broken() {
			got, err = CounterExample(t.Context(), want.Model, want.Flags...)
		} else {
			got, err = walkNamed(t, want)
		}
		if err != nil {
			t.Fatal(err)
		}
		if sameSpin(t) && listing(got.Events) != listing(want.Events) {
			t.Errorf("%s %s: -update the corpus, the model has changed:\n%s", want.Model, want.Name, listing(got.Events))
		}
	}
}

func makeCorpus(t *testing.T) {
	requireSpin(t)
	var list []Schedule
	for _, s := range sources {
		list = append(list, s.best(t)...)
	}
	for _, c := range broken {
		if c.want != breaks || c.model != "attempts" && c.model != "floor" {
			continue
		}
		s, err := CounterExample(t.Context(), c.model, c.flags...)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	var b bytes.Buffer
	if err := writeCorpus(&b, list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/corpus.txt", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// best are the walks in which most happens, no two the same.
func (s source) best(t *testing.T) []Schedule {
	var list []Schedule
	seen := map[string]bool{}
	for seed := 1; seed <= seeds; seed++ {
		w, err := Walk(t.Context(), s.model, seed, s.flags...)
		if err != nil {
			t.Fatal(err)
		}
		if text := listing(w.Events); !seen[text] {
			seen[text] = true
			list = append(list, w)
		}
	}
	slices.SortStableFunc(list, func(a, b Schedule) int { return cmp.Compare(variety(b), variety(a)) })
	return list[:min(s.keep, len(list))]
}

// variety is how many different things happen.
func variety(s Schedule) int {
	things := map[string]bool{}
	for _, e := range s.Events {
		things[e.Kind+e.Text("what")+e.Text("outcome")+e.Text("ok")+e.Text("a")] = true
	}
	return len(slices.Collect(maps.Keys(things)))
}

// TestReadCorpus: what is written is read again, and nonsense is not.
func TestReadCorpus(t *testing.T) {
	e, err := parseEvent("apply what=begin a=1 ok=0")
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != "apply" || e.Text("what") != "begin" || e.Number("a") != 1 || e.Is("ok") {
		t.Errorf("read as %q", e)
	}
	want := []Schedule{{Model: "attempts", Name: "X", Flags: []string{"-DBUG_P1_X"}, Events: []Event{e, {Kind: Forever}}}}
	var b bytes.Buffer
	if err := writeCorpus(&b, want); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	got, err := readCorpus(&b)
	if err != nil || len(got) != 1 || listing(got[0].Events) != listing(want[0].Events) || !got[0].Broken() {
		t.Errorf("%q is read as %v, %v", text, got, err)
	}
	for _, bad := range []string{"attempts", "attempts walk-1", "attempts walk-1: apply what", "attempts walk-1: apply =1", "attempts walk-1: ; "} {
		if _, err := readCorpus(strings.NewReader(bad + "\n")); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
