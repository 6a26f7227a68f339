package rpc

import (
	"context"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// ListAlerts lists what an operator must know of now: what the leader, every
// node and every participant have raised, and who of them did not answer.
func (c *Client) ListAlerts(ctx context.Context) (*pb.ListAlertsResponse, error) {
	return manage(ctx, c, &pb.ListAlertsRequest{}, pb.ClusterClient.ListAlerts)
}
