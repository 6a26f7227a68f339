package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// ListParticipants lists the registry.
func (c *Client) ListParticipants(ctx context.Context) ([]*pb.ParticipantInfo, error) {
	resp, err := manage(ctx, c, &pb.ListParticipantsRequest{}, pb.ClusterClient.ListParticipants)
	return resp.GetParticipants(), err
}

// AddParticipant registers or changes a participant. The cluster asks every
// endpoint who it is first.
func (c *Client) AddParticipant(ctx context.Context, req *pb.AddParticipantRequest) (*pb.ParticipantInfo, error) {
	return manage(ctx, c, req, pb.ClusterClient.AddParticipant)
}

// RemoveParticipant drains and removes a participant (P18).
func (c *Client) RemoveParticipant(ctx context.Context, req *pb.RemoveParticipantRequest) (*pb.ParticipantInfo, error) {
	return manage(ctx, c, req, pb.ClusterClient.RemoveParticipant)
}

// manage makes a call of the Cluster service at any node, with retries.
func manage[Req, Resp any](
	ctx context.Context, c *Client, req Req,
	method func(pb.ClusterClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (resp Resp, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = method(pb.NewClusterClient(conn), ctx, req)
		return err
	})
	return resp, err
}
