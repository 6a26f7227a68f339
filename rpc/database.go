package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Census lists every prepared transaction of the database under a participant.
// UNIMPLEMENTED says that its data are in no database.
func (c *Client) Census(ctx context.Context, participant string) (*pb.CensusResponse, error) {
	return ask(ctx, c, participant, &pb.CensusRequest{}, pb.ParticipantClient.Census)
}

// Diagnose looks at the database under a participant. UNIMPLEMENTED says that
// its data are in no database.
func (c *Client) Diagnose(ctx context.Context, participant string) ([]*pb.Finding, error) {
	resp, err := ask(ctx, c, participant, &pb.DiagnoseRequest{}, pb.ParticipantClient.Diagnose)
	return resp.GetFindings(), err
}

// AcceptInstance is an operator's word on a database that is another instance
// than the participant's data are bound to.
func (c *Client) AcceptInstance(ctx context.Context, participant string, req *pb.AcceptInstanceRequest) (*pb.AcceptInstanceResponse, error) {
	return ask(ctx, c, participant, req, pb.ParticipantClient.AcceptInstance)
}

// DescribeParticipant asks a participant who it is.
func (c *Client) DescribeParticipant(ctx context.Context, participant string) (*pb.DescribeResponse, error) {
	return ask(ctx, c, participant, &pb.DescribeRequest{}, pb.ParticipantClient.Describe)
}

// ask makes a call of the Participant service, as doParticipant does.
func ask[Req, Resp any](
	ctx context.Context, c *Client, participant string, req Req,
	method func(pb.ParticipantClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (resp Resp, err error) {
	err = c.doParticipant(ctx, participant, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = method(pb.NewParticipantClient(conn), ctx, req)
		return err
	})
	return resp, err
}
