package cluster

import (
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is Raft's network transport without its two dangerous shortcuts.
type transport struct {
	*raft.NetworkTransport
	layer *streamLayer
}

// Raft takes these abilities from the concrete type; without WithPreVote it
// would turn pre-vote off with no more than a warning.
var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(layer *streamLayer, timeout time.Duration, log hclog.Logger) *transport {
	return &transport{
		layer: layer,
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  layer,
			MaxPool:                 maxPool,
			MaxRPCsInFlight:         1, // 1 turns pipelining off: it can stall a follower for good
			Timeout:                 timeout,
			Logger:                  log,
			MsgpackUseNewTimeFormat: true,
		}),
	}
}

// SetHeartbeatHandler does nothing. The handler would run beside Raft's main
// loop and may change term and state under it, after which a deposed leader
// can write an entry into a term that is not its own (raft#695). Without it
// heartbeats wait their turn in the main loop.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}
