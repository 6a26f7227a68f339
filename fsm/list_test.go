package fsm

import (
	"cmp"
	"errors"
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
			list, more, err := s.List(ListQuery{After: test.after, Limit: test.limit, Match: test.match})
			if err != nil {
				t.Fatal(err)
			}
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
		var want []*Txn
		for _, id := range rapid.SliceOfDistinct(rapid.StringMatching(`[a-c.]{0,3}[a-c]`), rapid.ID[string]).Draw(t, "ids") {
			s.txns[id] = &Txn{ID: id, Refused: rapid.Bool().Draw(t, "refused"), BeginIndex: rapid.Uint64Range(1, 9).Draw(t, "index")}
			if s.txns[id].Refused {
				want = append(want, s.txns[id])
			}
		}
		order := rapid.SampledFrom([]Order{ByID, OldestFirst, NewestFirst}).Draw(t, "order")
		slices.SortFunc(want, func(a, b *Txn) int {
			byIndex := cmp.Compare(a.BeginIndex, b.BeginIndex)
			switch order {
			case OldestFirst:
				return cmp.Or(byIndex, cmp.Compare(a.ID, b.ID))
			case NewestFirst:
				return cmp.Or(-byIndex, -cmp.Compare(a.ID, b.ID))
			}
			return cmp.Compare(a.ID, b.ID)
		})
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		var got []*Txn
		for after, more := "", true; more; {
			list, others, err := s.List(ListQuery{Order: order, After: after, Limit: limit, Match: func(x *Txn) bool { return x.Refused }})
			if more = others; err != nil || len(list) > limit || more && len(list) < limit {
				t.Fatalf("a page of %d, more %v, %v", len(list), more, err)
			}
			got = append(got, list...)
			if len(list) > 0 {
				after = order.Place(list[len(list)-1])
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", idsOf(got), idsOf(want))
		}
	})
}

func TestSnapshotListRefusesPlaces(t *testing.T) {
	s := &Snapshot{txns: map[string]*Txn{}}
	for _, after := range []string{"x", "-x", "7", "7-", "7-a b", "-1-a", "99999999999999999999-a"} {
		_, _, err := s.List(ListQuery{Order: OldestFirst, After: after, Limit: 1})
		var field *FieldError
		if !errors.As(err, &field) || field.Field != "after" {
			t.Errorf("%q: %v", after, err)
		}
	}
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
	list, more, err := s.List(ListQuery{After: "t-00009", Limit: 10, Match: func(*Txn) bool { asked++; return true }})
	if err != nil || len(list) != 10 || !more || list[0].ID != "t-00010" || list[9].ID != "t-00019" {
		t.Fatalf("%q, more %v", idsOf(list), more)
	}
	if asked > all/10 {
		t.Errorf("%d of %d were candidates", asked, all)
	}
	if n := testing.AllocsPerRun(5, func() { _, _, _ = s.List(ListQuery{Limit: 10, Match: func(*Txn) bool { return true }}) }); n > 8 {
		t.Errorf("%v allocations: a list that grew far beyond two pages", n)
	}
}
