package history

import (
	"fmt"
	"strings"
)

// Outcome is what is known of a transaction's end.
type Outcome uint8

// The outcomes.
const (
	// Unknown: it may have happened, or may yet.
	Unknown Outcome = iota
	Committed
	Aborted
)

// String is the outcome's name.
func (o Outcome) String() string {
	return [...]string{"unknown", "committed", "aborted"}[o]
}

// Op is one operation on a list: an append of one value, which nobody else
// appends to that list, or a read of the whole list.
type Op struct {
	Key    string
	Append bool
	// Value is what is appended.
	Value int64
	// List is what a read found.
	List []int64
}

// String is the operation as it is shown in a report.
func (o Op) String() string {
	if o.Append {
		return fmt.Sprintf("append(%s, %d)", o.Key, o.Value)
	}
	if n := len(o.List); n > 6 {
		return fmt.Sprintf("read(%s) = [%d values, … %d %d %d]", o.Key, n, o.List[n-3], o.List[n-2], o.List[n-1])
	}
	return fmt.Sprintf("read(%s) = %v", o.Key, o.List)
}

// Txn is one transaction as its client saw it.
type Txn struct {
	ID      string
	Outcome Outcome
	// Call and Return are when it was sent and answered, by one clock for all.
	// The Return of an unknown one means nothing.
	Call, Return int64
	// Ops are in the order in which they were done. Reads of a transaction
	// whose answer was lost are left out.
	Ops []Op
}

// fewOps are all shown in a report.
const fewOps = 6

// String is the transaction as it is shown in a report.
func (t *Txn) String() string { return t.about("") }

// about shows the transaction; of many operations only those on lists that a
// text names.
func (t *Txn) about(text string) string {
	var ops []string
	left := 0
	for _, op := range t.Ops {
		if len(t.Ops) > fewOps && !strings.Contains(text, op.Key) {
			left++
			continue
		}
		ops = append(ops, op.String())
	}
	if left > 0 {
		ops = append(ops, fmt.Sprintf("and %d more", left))
	}
	end := "?"
	if t.Outcome != Unknown {
		end = seconds(t.Return)
	}
	return fmt.Sprintf("%s %s [%s, %s]: %s", t.ID, t.Outcome, seconds(t.Call), end, strings.Join(ops, ", "))
}

func seconds(nanos int64) string { return fmt.Sprintf("%.6fs", float64(nanos)/1e9) }
