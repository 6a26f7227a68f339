package participant

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// registerTry bounds one try, so that what stands in the way is logged in time.
	registerTry = 5 * time.Second
	// registerPauseMin and registerPauseMax pace the tries.
	registerPauseMin = 200 * time.Millisecond
	registerPauseMax = 5 * time.Second
)

// register adds a participant to the registry, in the place of what was registered
// or beside it (join), and tries until that is done or
// ctx ends. A refusal is logged once and tried again as well: an operator may
// mend what it names (other data, a name in removal), while this process has to
// stay up to be asked who it is.
func register(ctx context.Context, client *rpc.Client, name, endpoint string, join bool, log hclog.Logger) {
	req := &pb.AddParticipantRequest{Name: name, Endpoints: []string{endpoint}, Join: join}
	var said rpc.ErrorReason
	for pause := registerPauseMin; ; pause = min(2*pause, registerPauseMax) {
		try, cancel := context.WithTimeout(ctx, registerTry)
		info, err := client.AddParticipant(try, req)
		cancel()
		if err == nil {
			log.Info("registered", "participant", name, "endpoint", endpoint, "state", info.GetState())
			return
		}
		if ctx.Err() != nil {
			return
		}
		if reason := rpc.ReasonOf(err); reason != said {
			said = reason
			log.Warn("not registered yet; it is tried again", "participant", name, "endpoint", endpoint, "error", err)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}
