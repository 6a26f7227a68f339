package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Rest is what is left when the load is over and everything had time to end.
type Rest struct {
	// Unfinished transactions in any node's state, Preparing and InDoubt at the leader.
	Unfinished int `json:"unfinished"`
	Preparing  int `json:"preparing"`
	InDoubt    int `json:"in_doubt"`
	// Locks of all KV participants.
	Locks int `json:"locks"`
	// Prepared are the branches that are, in databases.
	Prepared int `json:"prepared_in_databases,omitempty"`
	// Alerts of all nodes, and finished transactions that wait for an operator.
	Alerts        int `json:"alerts"`
	NeedsOperator int `json:"needs_operator"`
	// Took is how long it took since the last answer.
	Took Millis `json:"took_ms"`
	// Blamed are the aborts, by the nodes' count since each was started, whose reason is neither CONDITION nor CONFLICT.
	Blamed int `json:"aborted_other_reason"`
}

func (r *Rest) none() bool {
	return r.Unfinished == 0 && r.Preparing == 0 && r.InDoubt == 0 && r.Locks == 0 && r.Prepared == 0
}

// settled waits until nothing is unfinished and no lock is held; after
// failoverTimeout it returns what is left, without an error, or why a node or
// participant does not say.
func (d *Demo) settled(ctx context.Context) (*Rest, error) {
	began := time.Now()
	for {
		r, err := d.rest(ctx)
		took := time.Since(began)
		if err != nil && (ctx.Err() != nil || took > failoverTimeout) {
			return nil, err
		}
		// Alerts about what was out for long are resolved a moment after it is back.
		if err == nil && (r.none() && r.Alerts == 0 || took > failoverTimeout) {
			r.Took = *millis(took)
			return r, nil
		}
		if err := wait(ctx, 4*lookPause); err != nil {
			return nil, err
		}
	}
}

// rest reads what is left now.
func (d *Demo) rest(ctx context.Context) (*Rest, error) {
	r := &Rest{}
	for _, n := range d.cluster.Nodes {
		s, err := d.metrics.read(ctx, n.HTTP)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", n.ID, err)
		}
		v, err := s.values("concordat_state_unfinished", "concordat_leader", "concordat_preparing", "concordat_in_doubt")
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", n.ID, err)
		}
		r.Unfinished = max(r.Unfinished, int(v[0]))
		if v[1] == 1 {
			r.Preparing, r.InDoubt = int(v[2]), int(v[3])
		}
		r.Alerts += int(s.sum("concordat_alerts", func(string) bool { return true }))
		r.Blamed += int(s.sum("concordat_transactions_total", func(labels string) bool {
			return strings.Contains(labels, `outcome="ABORT"`) &&
				!strings.Contains(labels, `reason="CONDITION"`) && !strings.Contains(labels, `reason="CONFLICT"`)
		}))
		st, err := d.client.Status(ctx, n.RPC)
		if err != nil {
			return nil, err
		}
		r.NeedsOperator = max(r.NeedsOperator, int(st.GetNeedsOperator()))
	}
	for _, s := range d.stores {
		list, err := s.prepared(ctx)
		if err != nil {
			return nil, fmt.Errorf("what is prepared in %s: %w", s.name, err)
		}
		r.Prepared += len(list)
	}
	for _, name := range d.kv() {
		scan, err := d.client.ScanKV(ctx, name, &pb.ScanRequest{Limit: 1})
		if err != nil {
			return nil, err
		}
		r.Locks += int(scan.GetLocks())
	}
	return r, nil
}
