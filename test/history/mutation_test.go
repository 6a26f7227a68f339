package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A mutation seeds one anomaly into a correct history and reports whether it
// found a place for it.
type mutation struct {
	want []Kind // any of them names it
	seed func(h *[]*Txn) bool
}

// staleRead takes the last values from a read whose writers had long returned.
func staleRead(h []*Txn) *Txn {
	writers := map[int64]*Txn{}
	for _, t := range h {
		for _, op := range t.Ops {
			if op.Append {
				writers[op.Value] = t
			}
		}
	}
	for _, t := range h {
		if t.Outcome != Committed || len(t.Ops) != 1 || t.Ops[0].Append {
			continue
		}
		list := t.Ops[0].List
		for n := len(list) - 1; n > 0 && n > len(list)-8; n-- {
			w := writers[list[n]]
			if w != nil && w.Outcome == Committed && w.Return < t.Call && w != writers[list[n-1]] {
				t.Ops[0].List = list[:n]
				return t
			}
		}
	}
	return nil
}

// pair adds transactions that overlap in the middle of the history, on keys of their own.
func pair(h *[]*Txn, ops ...[]Op) bool {
	at := (*h)[len(*h)/2].Call
	for i, o := range ops {
		*h = append(*h, &Txn{ID: fmt.Sprintf("seeded-%d", i), Outcome: Committed, Call: at + int64(i), Return: at + 1000 + int64(i), Ops: o})
	}
	// Somebody reads it all much later.
	end := (*h)[len(*h)/2+len(*h)/4].Call + 100_000
	for key, list := range lists(ops) {
		*h = append(*h, &Txn{ID: "late-" + key, Outcome: Committed, Call: end, Return: end + 10, Ops: []Op{seen(key, list...)}})
	}
	return true
}

// lists are the longest reads of the operations.
func lists(ops [][]Op) map[string][]int64 {
	longest := map[string][]int64{}
	for _, o := range ops {
		for _, op := range o {
			if !op.Append && len(op.List) > len(longest[op.Key]) {
				longest[op.Key] = op.List
			}
		}
	}
	return longest
}

func put(key string, value int64) Op            { return Op{Key: key, Append: true, Value: value} }
func seen(key string, values ...int64) Op       { return Op{Key: key, List: values} }
func change(h []*Txn, f func(t *Txn) bool) bool { return slices.ContainsFunc(h[len(h)/3:], f) }

// a value that was appended by another committed transaction than t and read by t.
func foreign(h []*Txn, t *Txn, v int64) *Txn {
	for _, w := range h {
		if w != t && w.Outcome == Committed && slices.ContainsFunc(w.Ops, func(o Op) bool { return o.Append && o.Value == v }) {
			return w
		}
	}
	return nil
}

// onlyRead reports whether t is one read of a list that is long enough.
func onlyRead(t *Txn) bool {
	return t.Outcome == Committed && len(t.Ops) == 1 && len(t.Ops[0].List) >= 3
}

var mutations = map[string]mutation{
	"write cycle": {[]Kind{WriteCycle}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1), put("y", -2)}, []Op{put("x", -3), put("y", -4)},
			[]Op{seen("x", -1, -3)}, []Op{seen("y", -4, -2)})
	}},
	"aborted read": {[]Kind{AbortedRead}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			if !onlyRead(t) {
				return false
			}
			w := foreign(*h, t, t.Ops[0].List[1])
			if w == nil || slices.ContainsFunc(w.Ops, func(o Op) bool { return !o.Append }) {
				return false
			}
			w.Outcome = Aborted
			return true
		})
	}},
	"intermediate read": {[]Kind{IntermediateRead}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1), put("x", -2)}, []Op{seen("x", -1)}, []Op{seen("x", -1, -2)})
	}},
	"circular information": {[]Kind{CircularInformation}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1), seen("y", -2)}, []Op{put("y", -2), seen("x", -1)})
	}},
	"read skew": {[]Kind{SingleAntiDependency}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1), put("y", -2)}, []Op{seen("x", -1), seen("y")}, []Op{seen("y", -2)})
	}},
	"write skew": {[]Kind{AntiDependency}, func(h *[]*Txn) bool {
		return pair(h, []Op{seen("x"), put("y", -1)}, []Op{seen("y"), put("x", -2)}, []Op{seen("x", -2), seen("y", -1)})
	}},
	"lost update": {[]Kind{LostUpdate}, func(h *[]*Txn) bool {
		return pair(h, []Op{seen("x"), put("x", -1)}, []Op{seen("x"), put("x", -2)}, []Op{seen("x", -1, -2)})
	}},
	"incompatible orders": {[]Kind{IncompatibleOrder}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			if !onlyRead(t) {
				return false
			}
			swapped := slices.Clone(t.Ops[0].List)
			swapped[0], swapped[1] = swapped[1], swapped[0]
			t.Ops[0].List = swapped
			return true
		})
	}},
	"stale read": {[]Kind{RealTime}, func(h *[]*Txn) bool { return staleRead((*h)[len(*h)/3:]) != nil }},
	"read from the future": {[]Kind{RealTime}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			if !onlyRead(t) {
				return false
			}
			w := foreign(*h, t, t.Ops[0].List[len(t.Ops[0].List)-1])
			if w == nil || len(w.Ops) != 1 {
				return false
			}
			w.Call, w.Return = t.Return+1, t.Return+2
			return true
		})
	}},
	"lost append": {[]Kind{LostAppend}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1)}, []Op{put("x", -2)}, []Op{seen("x", -1)})
	}},
	"garbage": {[]Kind{Garbage}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1)}, []Op{seen("x", -1, -9)})
	}},
	"ran twice": {[]Kind{Duplicate}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1)}, []Op{put("x", -2)}, []Op{seen("x", -1, -2, -1)})
	}},
	"own work not seen": {[]Kind{Internal}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			if !onlyRead(t) {
				return false
			}
			t.Ops = append([]Op{put(t.Ops[0].Key, -1)}, t.Ops...)
			return true
		})
	}},
	"list changes within": {[]Kind{Internal}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			if !onlyRead(t) {
				return false
			}
			list := t.Ops[0].List
			t.Ops = append([]Op{seen(t.Ops[0].Key, list[:len(list)-1]...)}, t.Ops...)
			return true
		})
	}},
	"value used twice": {[]Kind{Malformed}, func(h *[]*Txn) bool {
		return pair(h, []Op{put("x", -1)}, []Op{put("x", -1)})
	}},
	"returned before its call": {[]Kind{Malformed}, func(h *[]*Txn) bool {
		return change(*h, func(t *Txn) bool {
			t.Return = t.Call - 1
			return t.Outcome == Committed
		})
	}},
}

// TestSeededAnomaliesAreFound seeds each anomaly into many correct histories.
func TestSeededAnomaliesAreFound(t *testing.T) {
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds(25) {
				h := Generate(shape(seed))
				if !m.seed(&h) {
					t.Fatalf("seed %d: no place for it", seed)
				}
				r := CheckLists(h)
				if !slices.ContainsFunc(m.want, func(k Kind) bool { return r.Found[k] > 0 }) {
					t.Fatalf("seed %d: found %v, want %v", seed, slices.Collect(maps.Keys(r.Found)), m.want)
				}
				if seed == 0 {
					t.Log(r.Anomalies[0])
				}
			}
		})
	}
}

// A seeded unknown outcome that was read is taken for committed.
func TestUnknownThatWasReadHappened(t *testing.T) {
	h := []*Txn{
		{ID: "u", Outcome: Unknown, Call: 1, Ops: []Op{put("x", 1), put("y", 2)}},
		{ID: "r", Outcome: Committed, Call: 2, Return: 3, Ops: []Op{seen("x", 1)}},
		{ID: "s", Outcome: Committed, Call: 4, Return: 5, Ops: []Op{seen("y")}},
	}
	r := CheckLists(h)
	if len(r.Unresolved) != 0 || r.Found[RealTime] == 0 {
		t.Fatalf("r saw half of it, and s after r not the other half: %v, %d unresolved", r.Found, len(r.Unresolved))
	}
	text := r.Anomalies[0].String()
	for _, part := range []string{"real-time violation", "T1 = ", "T1 before T2: ", "append(x, 1)", "unknown"} {
		if !strings.Contains(text, part) {
			t.Errorf("the report does not say %q:\n%s", part, text)
		}
	}
}
