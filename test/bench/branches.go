package main

import (
	"context"
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
)

// scaleClients load the cluster where the cost of one transaction is measured.
const scaleClients = 64

// branches runs transactions over more and more participants, all of them in one
// process beside the nodes.
func branches(ctx context.Context, b *bench) error {
	s, err := b.idleStage(ctx, "branches", 1, fsm.MaxBranches)
	if err != nil {
		return err
	}
	defer s.close()
	for n := 2; n <= fsm.MaxBranches; n *= 2 {
		if _, err := s.costs(ctx, "branches", fmt.Sprintf("%d branches", n), s.load(n, 64), scaleClients); err != nil {
			return err
		}
	}
	return nil
}
