package node

import (
	"context"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/rpc"
)

// A transfer that ends with the former leader's election must be told, not
// waited on until the caller's deadline: nobody else is going to lead.
func TestTransferThatCameBack(t *testing.T) {
	old, again := &cluster.Leadership{Term: 4}, &cluster.Leadership{Term: 6}
	for name, test := range map[string]struct {
		seen   []cluster.Status
		leader string
		reason rpc.ErrorReason
	}{
		"another leads": {[]cluster.Status{{LeaderID: "n1", Leading: old}, {}, {LeaderID: "n2"}}, "n2", ""},
		"elected again": {[]cluster.Status{{LeaderID: "n1", Leading: old}, {}, {LeaderID: "n1", Leading: again}}, "", rpc.ReasonNotReady},
	} {
		t.Run(name, func(t *testing.T) {
			looks := 0
			status := func() cluster.Status {
				st := test.seen[min(looks, len(test.seen)-1)]
				looks++
				st.NodeID = "n1"
				return st
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			r, err := awaitSuccessor(ctx, status, "n2", 4)
			if r.GetLeader() != test.leader || rpc.ReasonOf(err) != test.reason {
				t.Errorf("%v, %v", r, err)
			}
			if test.leader != "" && r.GetFormer() != "n1" {
				t.Errorf("the former leader is %q", r.GetFormer())
			}
		})
	}
}
