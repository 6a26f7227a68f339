package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A reader whose own time ends while the node catches up is told that, not
// that the node is behind: another node would do no better.
func TestReaderOfAWatchRunsOutOfTime(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen, cfg.HTTPListen, cfg.Logger = "127.0.0.1:0", "127.0.0.1:0", hclog.NewNullLogger()
	cfg.Cluster.NodeID, cfg.Cluster.DataDir, cfg.Cluster.RaftListen = "n1", t.TempDir(), "127.0.0.1:0"
	cfg.Cluster.Peers = []cluster.Peer{{ID: "n1", Address: "127.0.0.1:1"}}
	cfg.Cluster.Logger = cfg.Logger
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for want, late := range map[error]func(context.Context) (context.Context, context.CancelFunc){
		context.DeadlineExceeded: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		},
		context.Canceled: func(ctx context.Context) (context.Context, context.CancelFunc) {
			gone, leave := context.WithCancel(ctx)
			leave()
			return gone, leave
		},
	} {
		ctx, cancel := late(t.Context())
		w := &watcher{node: n, req: &pb.WatchRequest{Resume: "1000000"}}
		if err := w.begin(ctx); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		cancel()
	}
}
