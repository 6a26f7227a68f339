package rpc

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// ReadKV reads keys of a KV participant at one point in time (P13). Its
// endpoints are looked up in the registry and tried in turn until ctx ends;
// LOCKED names the transaction that the read waited for.
func (c *Client) ReadKV(ctx context.Context, participant string, keys ...string) ([]*pb.KeyValue, error) {
	return c.readKV(ctx, participant, &pb.ReadRequest{Keys: keys})
}

// ReadKVStale is ReadKV without waiting for prepared writers: what it returns
// was committed, and may be about to change.
func (c *Client) ReadKVStale(ctx context.Context, participant string, keys ...string) ([]*pb.KeyValue, error) {
	return c.readKV(ctx, participant, &pb.ReadRequest{Keys: keys, Stale: true})
}

func (c *Client) readKV(ctx context.Context, participant string, req *pb.ReadRequest) ([]*pb.KeyValue, error) {
	req.Participant = participant
	var resp *pb.ReadResponse
	err := c.doParticipant(ctx, participant, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = pb.NewKVClient(conn).Read(ctx, req)
		return err
	})
	return resp.GetItems(), err
}

// ScanKV lists committed keys of a KV participant in order, stale.
func (c *Client) ScanKV(ctx context.Context, participant string, req *pb.ScanRequest) (*pb.ScanResponse, error) {
	named := proto.Clone(req).(*pb.ScanRequest) //nolint:forcetypeassert // Clone keeps the type
	named.Participant = participant
	var resp *pb.ScanResponse
	err := c.doParticipant(ctx, participant, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = pb.NewKVClient(conn).Scan(ctx, named)
		return err
	})
	return resp, err
}

// doParticipant repeats a call over a participant's endpoints, which are looked
// up anew after a round in which none answered, until it is answered or ctx ends.
func (c *Client) doParticipant(ctx context.Context, name string, call callFunc) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	endpoints, err := c.endpoints(ctx, name)
	if err != nil {
		return err
	}
	var b retryBackoff
	var last lastWord
	for {
		e := c.tryEndpoints(ctx, endpoints, call)
		if e == nil {
			return nil
		}
		e.Participant = name
		told := last.after(ctx, e)
		if !e.Retryable() || b.pause(ctx, e, false) != nil {
			return told
		}
		if e.Reason != ReasonUnreachable && e.Reason != ReasonConnectionLost {
			continue
		}
		if endpoints, err = c.endpoints(ctx, name); err != nil {
			return last.after(ctx, FromError(err))
		}
	}
}

// tryEndpoints makes one round; the error is the last endpoint's.
func (c *Client) tryEndpoints(ctx context.Context, endpoints []string, call callFunc) (e *Error) {
	for _, addr := range endpoints {
		e = FromError(c.try(ctx, addr, probeParticipant, call))
		if e == nil || !e.Retryable() || ctx.Err() != nil {
			return e
		}
	}
	return e
}

// endpoints are the registered addresses of a participant; at least one.
func (c *Client) endpoints(ctx context.Context, name string) ([]string, error) {
	all, err := c.ListParticipants(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(p *pb.ParticipantInfo) bool { return p.GetName() == name })
	if i < 0 || len(all[i].GetEndpoints()) == 0 {
		e := Errorf(ReasonParticipantUnknown, "the registry has no participant %q; register it first", name)
		e.Participant = name
		return nil, e
	}
	return all[i].GetEndpoints(), nil
}
