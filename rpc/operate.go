package rpc

import (
	"context"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Retry has the leader make at once the calls of a transaction, or of all with
// a branch at one participant, that it would make later. It changes no state.
func (c *Client) Retry(ctx context.Context, req *pb.RetryRequest) (*pb.RetryResponse, error) {
	return coordinate(ctx, c, req, pb.CoordinatorClient.Retry, func(*pb.RetryResponse) {})
}

// TransferLeadership hands the leadership to the named node, or to the one that
// is furthest if the name is empty. Transactions under way go on there.
func (c *Client) TransferLeadership(ctx context.Context, node string) (*pb.TransferLeadershipResponse, error) {
	from, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	return manage(ctx, c, &pb.TransferLeadershipRequest{Node: node, From: from}, pb.ClusterClient.TransferLeadership)
}

// leader is the id of the node that leads, by the first node that knows one.
func (c *Client) leader(ctx context.Context) (id string, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *Conn) error {
		st, err := pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{})
		if err == nil && st.GetLeader() == "" {
			return Errorf(ReasonNoLeader, "node %s knows no leader now", st.GetNode())
		}
		id = st.GetLeader()
		return err
	})
	return id, err
}
