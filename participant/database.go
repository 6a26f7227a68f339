package participant

import (
	"context"
	"errors"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Database is what a ResourceManager over a database that others use as well
// can do besides. It is optional.
type Database interface {
	// Census lists every prepared transaction that the database holds, of
	// whomever, the oldest first. It changes nothing.
	Census(ctx context.Context) (*pb.CensusResponse, error)
	// Diagnose looks at the database's version, settings and privileges. It
	// changes nothing. What it cannot look at is a finding, too.
	Diagnose(ctx context.Context) ([]*pb.Finding, error)
	// Instance is the instance of the database as it was last seen, and the one
	// that the data are bound to. While they differ, nothing is rolled back and
	// nothing that is absent is believed.
	Instance() (now, bound string)
	// AcceptInstance binds the data to an instance, durably; it must be the present one.
	AcceptInstance(ctx context.Context, instance string) error
}

// ErrInstance is what AcceptInstance says of an instance that is not the present one.
var ErrInstance = errors.New("the database is another instance")

// database is the resource manager, if it is one over a database.
func (s *Server) database() (Database, error) {
	db, ok := s.rm.(Database)
	if !ok {
		return nil, rpc.Errorf(rpc.ReasonUnimplemented, "participant %s (%s) keeps its data by itself, in no database", s.cfg.Name, s.fence.identity.Kind)
	}
	return db, nil
}

// Census lists what the database holds prepared.
func (s *Server) Census(ctx context.Context, _ *pb.CensusRequest) (*pb.CensusResponse, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	return db.Census(ctx)
}

// Diagnose looks at the database and its settings.
func (s *Server) Diagnose(ctx context.Context, _ *pb.DiagnoseRequest) (*pb.DiagnoseResponse, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	findings, err := db.Diagnose(ctx)
	return &pb.DiagnoseResponse{Findings: findings}, err
}

// AcceptInstance is an operator's word on a database that is another instance than before.
func (s *Server) AcceptInstance(ctx context.Context, req *pb.AcceptInstanceRequest) (*pb.AcceptInstanceResponse, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	if req.GetInstance() == "" {
		return nil, rpc.FieldErrorf("instance", "the instance that is accepted", "nothing")
	}
	_, former := db.Instance()
	if err := db.AcceptInstance(ctx, req.GetInstance()); errors.Is(err, ErrInstance) {
		now, _ := db.Instance()
		return nil, rpc.FieldErrorf("instance", "the present one, "+now, "%q", req.GetInstance())
	} else if err != nil {
		return nil, err
	}
	s.log.Warn("an operator accepted the database's instance", "instance", req.GetInstance(), "former", former, "operator", req.GetOperator())
	return &pb.AcceptInstanceResponse{Instance: req.GetInstance(), Former: former}, nil
}

// instanceEvery is how often the instance is looked at. That asks nobody.
const instanceEvery = 250 * time.Millisecond

// watchInstance alerts while the database is another instance than the data are bound to.
func (s *Server) watchInstance(ctx context.Context, db Database) {
	tick := time.NewTicker(instanceEvery)
	defer tick.Stop()
	for {
		if now, bound := db.Instance(); now != bound {
			s.alerts.raise(alertInstance, Ref{}, "the database is another instance than the data are bound to: nothing is rolled back until an operator accepts it",
				"instance", now, "bound", bound)
		} else {
			s.alerts.resolve(alertInstance, Ref{})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
