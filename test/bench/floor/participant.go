package floor

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"google.golang.org/grpc"
)

// participant says yes to everything and keeps nothing.
type participant struct{ prepared, committed atomic.Int64 }

// Counts is what a participant was asked.
type Counts struct {
	Prepared  int64 `json:"prepared"`
	Committed int64 `json:"committed"`
}

func (p *participant) service() *grpc.ServiceDesc {
	count := func(n *atomic.Int64) method {
		return func(context.Context, []byte) ([]byte, error) {
			n.Add(1)
			return nil, nil
		}
	}
	return service(participantService, map[string]method{
		"Prepare": count(&p.prepared), "Commit": count(&p.committed),
		"Counts": func(context.Context, []byte) ([]byte, error) {
			return json.Marshal(Counts{p.prepared.Load(), p.committed.Load()})
		},
	})
}

// echoed is a call that does nothing.
func echoed() *grpc.ServiceDesc {
	return service(echoService, map[string]method{"Echo": func(_ context.Context, in []byte) ([]byte, error) { return in, nil }})
}
