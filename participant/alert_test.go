package participant

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc"
)

// An alert shows all that is raised of its kind, however much came after it was
// made, until nothing is left.
func TestAlertShowsAllThatIsRaised(t *testing.T) {
	doubt := newDoubtSet(time.Second)
	a, err := newAlerts(Config{Name: "p"}, hclog.NewNullLogger(), newMetrics("p", doubt), doubt, func() string { return "c" })
	if err != nil {
		t.Fatal(err)
	}
	ref := func(n int) Ref {
		return Ref{ID: fmt.Sprint("t", n), Attempt: rpc.Attempt{Generation: 1, Term: 1, Sequence: uint64(n)}}
	}
	counted := func(want uint64, first string) {
		t.Helper()
		list := a.book.Show()
		if len(list) != 1 || list[0].Count != want || list[0].Transactions[0] != first {
			t.Errorf("shown: %+v, want %d from %s on", list, want, first)
		}
	}
	for _, n := range []int{3, 2, 4} {
		a.raise(alertInDoubt, ref(n), "in doubt")
	}
	counted(3, "t2")
	a.resolveBranch(ref(2))
	counted(2, "t3")
	a.resolveBranch(ref(3))
	a.raise(alertInDoubt, ref(1), "in doubt")
	counted(2, "t1")
	a.resolveBranch(ref(1))
	a.resolveBranch(ref(4))
	if list := a.book.Show(); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}
