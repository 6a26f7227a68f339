package fsm

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSnapshotList(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.begin(fmt.Sprintf("t-%d", i), "a")
	}
	s := w.m.Snapshot()
	all := func(*Txn) bool { return true }
	odd := func(x *Txn) bool { return (x.ID[2]-'0')%2 == 1 }
	tests := map[string]struct {
		after string
		limit int
		match func(*Txn) bool
		want  []string
		more  bool
	}{
		"everything":    {"", 10, all, []string{"t-0", "t-1", "t-2", "t-3", "t-4"}, false},
		"exactly":       {"", 5, all, []string{"t-0", "t-1", "t-2", "t-3", "t-4"}, false},
		"a first page":  {"", 2, all, []string{"t-0", "t-1"}, true},
		"the next":      {"t-1", 2, all, []string{"t-2", "t-3"}, true},
		"the last":      {"t-3", 2, all, []string{"t-4"}, false},
		"those matched": {"", 1, odd, []string{"t-1"}, true},
		"behind all":    {"u", 2, all, nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			list, more := s.List(test.after, test.limit, test.match)
			got := idsOf(list)
			if fmt.Sprint(got) != fmt.Sprint(test.want) || more != test.more {
				t.Errorf("%v, more %v; want %v, %v", got, more, test.want, test.more)
			}
		})
	}
}

func idsOf(list []*Txn) (ids []string) {
	for _, x := range list {
		ids = append(ids, x.ID)
	}
	return ids
}

// Pages of any size, one after the other, are everything once and in order.
func TestSnapshotListPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Snapshot{txns: map[string]*Txn{}}
		var want []string
		for _, id := range rapid.SliceOfDistinct(rapid.StringMatching(`[a-c.]{1,4}`), rapid.ID[string]).Draw(t, "ids") {
			s.txns[id] = &Txn{ID: id, Refused: rapid.Bool().Draw(t, "refused")}
			if s.txns[id].Refused {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		var got []string
		for after, more := "", true; more; {
			var list []*Txn
			if list, more = s.List(after, limit, func(x *Txn) bool { return x.Refused }); len(list) > limit || more && len(list) < limit {
				t.Fatalf("a page of %d, more %v", len(list), more)
			}
			got = append(got, idsOf(list)...)
			if len(list) > 0 {
				after = list[len(list)-1].ID
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

// A page looks at every id, but collects and sorts few: match is asked only for
// ids that can still be on it, and the memory is that of two pages.
func TestSnapshotListSelects(t *testing.T) {
	s := &Snapshot{txns: map[string]*Txn{}}
	const all = 20_000
	for i := range all {
		id := fmt.Sprintf("t-%05d", i)
		s.txns[id] = &Txn{ID: id}
	}
	asked := 0
	list, more := s.List("t-00009", 10, func(*Txn) bool { asked++; return true })
	if len(list) != 10 || !more || list[0].ID != "t-00010" || list[9].ID != "t-00019" {
		t.Fatalf("%q, more %v", idsOf(list), more)
	}
	if asked > all/10 {
		t.Errorf("%d of %d were candidates", asked, all)
	}
	if n := testing.AllocsPerRun(5, func() { s.List("", 10, func(*Txn) bool { return true }) }); n > 8 {
		t.Errorf("%v allocations: a list that grew far beyond two pages", n)
	}
}
