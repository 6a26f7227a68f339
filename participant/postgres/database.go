package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var _ participant.Database = (*Store)(nil)

const (
	// maxCensus and maxBlocks bound what a census tells.
	maxCensus = 10_000
	maxBlocks = 20
)

// Census tells of every prepared transaction of the server.
func (s *Store) Census(ctx context.Context) (*pb.CensusResponse, error) {
	found, err := s.Survey(ctx)
	if err != nil {
		return nil, err
	}
	out := &pb.CensusResponse{Capacity: uint32(found.Capacity)}
	var behind int64
	for _, p := range found.Prepared {
		behind = max(behind, p.Transactions)
		if len(out.GetPrepared()) == maxCensus {
			continue
		}
		one := &pb.PreparedTransaction{
			Name: p.GID, Owner: p.Kinship.Proto(), AgeSeconds: p.Age.Seconds(), Database: p.Database, User: p.Owner,
		}
		if p.Kinship == sqlbranch.Ours {
			one.Id, one.Attempt = p.Ref.ID, rpc.AttemptProto(p.Ref.Attempt)
		}
		for _, pid := range p.Blocks[:min(len(p.Blocks), maxBlocks)] {
			one.Blocks = append(one.Blocks, strconv.Itoa(int(pid)))
		}
		out.Prepared = append(out.Prepared, one)
	}
	if behind > 0 {
		out.Horizon = fmt.Sprintf("what was deleted in the last %d transactions cannot be vacuumed", behind)
	}
	return out, nil
}

// Instance is the instance that the newest connection led to, and the one that
// the data are bound to.
func (s *Store) Instance() (now, bound string) {
	if i := s.instances.Load(); i != nil {
		return i.found, i.known
	}
	return "", "" // no connection yet
}

// AcceptInstance is an operator's word that the data of the present instance are
// whole: nothing that was answered is missing in them.
func (s *Store) AcceptInstance(ctx context.Context, instance string) error {
	return s.withControl(ctx, func(conn *pgx.Conn) error {
		return s.options.around(func() error {
			tag, err := conn.Exec(ctx, `UPDATE concordat.participant SET instance = $2 WHERE name = $1 AND $2 = `+sqlInstance, s.options.Name, instance)
			switch {
			case err != nil:
				return err
			case tag.RowsAffected() == 0:
				return participant.ErrInstance
			}
			s.instances.Store(&instances{instance, instance})
			return nil
		})
	})
}
