package history

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const patience = time.Minute

// registers is a correct history of overlapping sets and reads of some keys.
func registers(seed uint64, n int) []RegisterOp {
	r := rand.New(rand.NewPCG(seed, 2))
	values := make([]string, 4)
	var ops []RegisterOp
	now := int64(0)
	for i := range n {
		now += int64(2 + r.IntN(10))
		k := r.IntN(len(values))
		op := RegisterOp{Key: strconv.Itoa(k), Set: r.IntN(3) == 0, Call: now - int64(1+r.IntN(40)), Return: now + int64(1+r.IntN(40))}
		if op.Set {
			values[k] = strconv.Itoa(i)
		}
		op.Value = values[k]
		ops = append(ops, op)
	}
	return ops
}

func TestRegisters(t *testing.T) {
	for seed := range uint64(20) {
		ops := registers(seed, 600)
		if s := CheckRegisters(ops, patience); !s.OK() || s.Histories != 4 || s.Ops != 600 {
			t.Fatalf("seed %d: %+v", seed, s)
		}
		// A read long after a set that misses it.
		set := slices.IndexFunc(ops[300:], func(o RegisterOp) bool { return o.Set }) + 300
		end := ops[599].Return + 100
		ops = append(ops, RegisterOp{Key: ops[set].Key, Set: true, Value: "last", Call: end, Return: end + 1},
			RegisterOp{Key: ops[set].Key, Value: ops[set].Value, Call: end + 2, Return: end + 3})
		s := CheckRegisters(ops, patience)
		if len(s.Illegal) != 1 || !strings.Contains(s.Illegal[0], `set "last"`) {
			t.Fatalf("seed %d: the stale read was not found: %+v", seed, s)
		}
	}
}

// A search that the clock ended is no success.
func TestUndecidedIsNoSuccess(t *testing.T) {
	var ops []RegisterOp
	for i := range 2000 { // all at once, and one read that nothing explains
		ops = append(ops, RegisterOp{Key: "k", Set: true, Value: strconv.Itoa(i), Call: 1, Return: 10_000})
	}
	ops = append(ops, RegisterOp{Key: "k", Value: "nobody's", Call: 5, Return: 10_000})
	s := CheckRegisters(ops, 20*time.Millisecond)
	if s.OK() || len(s.Undecided) != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestStates(t *testing.T) {
	at := int64(0)
	seq := func(states ...State) (ops []StateOp) {
		for _, s := range states {
			at += 10
			told := StateOp{ID: "x", State: State(strings.TrimPrefix(string(s), ">=")), AtLeast: strings.HasPrefix(string(s), ">="), Call: at, Return: at + 5}
			ops = append(ops, told)
		}
		return ops
	}
	overlapping := []StateOp{{ID: "x", State: StateCommitted, Call: 1, Return: 9}, {ID: "x", State: StatePreparing, Call: 2, Return: 8}}
	for name, test := range map[string]struct {
		ops   []StateOp
		right bool
	}{
		"all of a commit":       {seq(StateNotFound, StatePreparing, StatePreparing, StateCommitting, StateCommitted, StateCommitted), true},
		"all of an abort":       {seq(StateNotFound, StatePreparing, StateAborting, StateAborted), true},
		"refused":               {seq(StateNotFound, StateAborted), true},
		"told, then looked":     {seq(StatePreparing, ">="+StateCommitting, StateCommitted), true},
		"told after it is done": {seq(StateCommitted, ">="+StateCommitting, StateCommitted), true},
		"at the same time":      {overlapping, true},
		"forgotten":             {seq(StatePreparing, StateNotFound), false},
		"undecided again":       {seq(StateCommitting, StatePreparing), false},
		"done and undone":       {seq(StateCommitted, StateCommitting), false},
		"decision changes":      {seq(StateCommitting, StateAborted), false},
		"told otherwise":        {seq(StateCommitted, ">="+StateAborting), false},
		"told, then not begun":  {seq(">="+StateCommitting, StatePreparing), false},
	} {
		t.Run(name, func(t *testing.T) {
			if s := CheckStates(test.ops, patience); s.OK() != test.right || len(s.Undecided) > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
