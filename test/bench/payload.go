package main

import (
	"context"
	"fmt"

	"github.com/concordat-tx/concordat/fsm"
)

// payload runs transactions of two branches that carry more and more.
func payload(ctx context.Context, b *bench) error {
	s, err := b.idleStage(ctx, "payload", 1, 2)
	if err != nil {
		return err
	}
	defer s.close()
	for _, bytes := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, fsm.MaxPayloadBytes} {
		if _, err := s.costs(ctx, "payload", fmt.Sprintf("%d B a branch", bytes), s.load(2, bytes), scaleClients); err != nil {
			return err
		}
	}
	return nil
}
