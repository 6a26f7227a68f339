//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// settleWithin the end of the last fault nothing may be locked or in doubt.
const settleWithin = 5 * time.Second

// giveUpAfter is when nobody waits any more for what is late anyway.
const giveUpAfter = 15 * time.Second

// settle waits until nothing is unfinished, in doubt or locked, and says
// whether that took too long.
func (r *Report) settle(ctx context.Context, s *Stage) {
	late := ""
	for {
		left, stuck, err := s.left(ctx)
		r.Settled = time.Since(r.lastHeal).Seconds()
		if err == nil && left == "" {
			break
		}
		if err != nil {
			left = err.Error()
		}
		if late == "" && r.Settled > settleWithin.Seconds() {
			late = left
		}
		if stuck || r.Settled > giveUpAfter.Seconds() || pause20(ctx) != nil {
			r.problem("%.0f s after %s: %s", r.Settled, r.last(), left)
			return
		}
	}
	r.Checks["settled"]++
	if late != "" {
		r.problem("%s after %s: %s; that was over after %.1f s", settleWithin, r.last(), late, r.Settled)
	}
}

// left is what is not settled; empty if nothing is. What is stuck does not
// settle by itself.
func (s *Stage) left(ctx context.Context) (what string, stuck bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	leader := s.cluster.Leader(ctx)
	if leader == nil {
		return "no node leads", false, nil
	}
	var left []string
	for _, n := range s.cluster.Nodes {
		st, err := s.admin.Status(ctx, n.RPC)
		if err != nil {
			return "", false, fmt.Errorf("status of %s: %w", n.ID, err)
		}
		if st.GetPreparing()+st.GetDeciding() > 0 {
			left = append(left, fmt.Sprintf("%s has %d transactions undecided and %d decided and not finished", n.ID, st.GetPreparing(), st.GetDeciding()))
		}
		if st.GetNeedsOperator() > 0 {
			stuck = true
			left = append(left, fmt.Sprintf("%s: %d transactions need an operator", n.ID, st.GetNeedsOperator()))
		}
	}
	for _, p := range s.names {
		scan, err := s.admin.ScanKV(ctx, p, &pb.ScanRequest{Limit: 1})
		if err != nil {
			return "", false, fmt.Errorf("scan of %s: %w", p, err)
		}
		prepared, err := s.metric(ctx, p, "concordat_participant_prepared", "")
		if err != nil {
			return "", false, err
		}
		if scan.GetLocks() > 0 || prepared > 0 {
			left = append(left, fmt.Sprintf("%s holds %d locks and %.0f prepared branches", p, scan.GetLocks(), prepared))
		}
	}
	return strings.Join(left, "; "), stuck, nil
}

// allHoldings of every child, by name.
func (s *Stage) allHoldings(ctx context.Context) (map[string]holdings, error) {
	all := map[string]holdings{}
	for _, child := range s.children() {
		h, err := s.holdings(ctx, child)
		if err != nil {
			return nil, err
		}
		all[child] = h
	}
	return all, nil
}

// What a process may hold more than at first. A follower that comes to lead has
// up to 3 connections of Raft's pool each way to either node, one each way to
// their gRPC, one each way to every participant, and those of 3 clients and of the
// runner: up to 27, of which it had some at first. Whoever leaks has more
// with every fault, and the report says to whom.
const (
	moreDescriptors = 26
	moreGoroutines  = 80
	releaseWithin   = 15 * time.Second
)

// leaks waits until every process holds no more than at first.
func (r *Report) leaks(ctx context.Context, s *Stage, before map[string]holdings) {
	deadline := time.Now().Add(releaseWithin)
	for {
		now, err := s.allHoldings(ctx)
		var more []string
		for child, h := range now {
			if b := before[child]; h.Descriptors > b.Descriptors+moreDescriptors || h.Goroutines > b.Goroutines+moreGoroutines {
				more = append(more, fmt.Sprintf("%s holds %d descriptors and %d goroutines, and held %d and %d at first",
					child, h.Descriptors, h.Goroutines, b.Descriptors, b.Goroutines))
			}
		}
		r.Holdings = now
		if err == nil && len(more) == 0 {
			r.Checks["processes without a leak"] += len(now)
			return
		}
		if time.Now().After(deadline) || pause20(ctx) != nil {
			for child := range now {
				more = append(more, child+": "+s.held(child))
			}
			r.problem("leaked: %v", errors.Join(err, errors.New(strings.Join(more, "; "))))
			return
		}
	}
}

// sameState compares the nodes' states at one index.
func (r *Report) sameState(ctx context.Context, s *Stage) {
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	hashes, err := s.cluster.StateHashes(ctx)
	if err != nil {
		r.problem("state hashes: %v", err)
		return
	}
	different := map[string]bool{}
	var text []string
	for id, h := range hashes {
		different[h.GetHash()] = true
		text = append(text, fmt.Sprintf("%s at index %d: %s", id, h.GetIndex(), h.GetHash()))
	}
	if len(hashes) != nodes || len(different) != 1 {
		r.problem("the nodes' states differ: %s", strings.Join(text, ", "))
	}
	r.Checks["state hashes"] += len(hashes)
}
