package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// sqlInstance is which server's history this is: it changes when another
// server takes over, or when the data are restored to an earlier point.
const sqlInstance = `(SELECT system_identifier::text FROM pg_catalog.pg_control_system())
	|| '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)`

const sqlIdentity = `SELECT incarnation, cluster_id, generation, term::text, floor FROM concordat.participant WHERE name = $1`

// otherInstance is a database that is not the one that was known.
type instances struct{ known, found string }

// Identity is what the data know of themselves.
func (s *Store) Identity(ctx context.Context) (participant.Identity, error) {
	id := participant.Identity{Kind: s.options.Kind}
	err := s.withControl(ctx, func(conn *pgx.Conn) (err error) {
		id.Incarnation, id.Binding, err = s.binding(ctx, conn, "")
		return err
	})
	if err != nil {
		return participant.Identity{}, err
	}
	if c := id.Binding.ClusterID; c != "" {
		s.cluster.Store(&c)
	}
	return id, nil
}

// binding reads the participant's row; lock may be FOR UPDATE.
func (s *Store) binding(ctx context.Context, q querier, lock string) (incarnation string, b participant.Binding, err error) {
	var generation int64
	var term string
	var floor []byte
	err = q.QueryRow(ctx, sqlIdentity+" "+lock, s.options.Name).Scan(&incarnation, &b.ClusterID, &generation, &term, &floor)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", b, fmt.Errorf("the row of participant %s is missing in concordat.participant: it was deleted by somebody", s.options.Name)
	}
	if err != nil {
		return "", b, fmt.Errorf("read the participant's row: %w", err)
	}
	b.Generation = uint32(generation)
	if b.Term, err = strconv.ParseUint(term, 10, 64); err != nil {
		return "", b, fmt.Errorf("the participant's row: term %q: %w", term, err)
	}
	b.Floor, err = decodeFloor(floor)
	return incarnation, b, err
}

// Bind makes a new Binding durable. Another endpoint may have bound the data
// meanwhile: nothing is ever lowered, and the cluster never changes.
func (s *Store) Bind(ctx context.Context, b participant.Binding) error {
	return s.withControl(ctx, func(conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer undo(ctx, tx)
		_, old, err := s.binding(ctx, tx, "FOR UPDATE")
		if err != nil {
			return err
		}
		if old.ClusterID != "" && old.ClusterID != b.ClusterID {
			return rpc.Errorf(rpc.ReasonWrongCluster, "the data of %s belong to cluster %s by now, not to %s", s.options.Name, old.ClusterID, b.ClusterID)
		}
		next := b
		if old.Generation > b.Generation || old.Generation == b.Generation && old.Term > b.Term {
			next.Generation, next.Term = old.Generation, old.Term
		}
		if next.Floor.Less(old.Floor) {
			next.Floor = old.Floor
		}
		if next != old {
			_, err := tx.Exec(ctx, `UPDATE concordat.participant SET cluster_id = $2, generation = $3, term = $4::text::numeric, floor = $5 WHERE name = $1`,
				s.options.Name, next.ClusterID, int64(next.Generation), strconv.FormatUint(next.Term, 10), encodeFloor(next.Floor))
			if err != nil {
				return err
			}
		}
		if err := s.options.around(func() error { return tx.Commit(ctx) }); err != nil {
			return err
		}
		s.cluster.Store(&next.ClusterID)
		return nil
	})
}

// encodeFloor keeps the order of attempts.
func encodeFloor(a rpc.Attempt) []byte {
	b := binary.BigEndian.AppendUint32(nil, a.Generation)
	b = binary.BigEndian.AppendUint64(b, a.Term)
	return binary.BigEndian.AppendUint64(b, a.Sequence)
}

func decodeFloor(b []byte) (rpc.Attempt, error) {
	switch len(b) {
	case 0:
		return rpc.Attempt{}, nil
	case 20:
		return rpc.Attempt{
			Generation: binary.BigEndian.Uint32(b), Term: binary.BigEndian.Uint64(b[4:]), Sequence: binary.BigEndian.Uint64(b[12:]),
		}, nil
	}
	return rpc.Attempt{}, fmt.Errorf("the participant's row: a floor of %d bytes", len(b))
}

// recognise looks whether a new connection leads to the instance that is known.
func (s *Store) recognise(ctx context.Context, conn *pgx.Conn) error {
	var known, found string
	err := conn.QueryRow(ctx, `SELECT instance, `+sqlInstance+` FROM concordat.participant WHERE name = $1`, s.options.Name).Scan(&known, &found)
	if err != nil {
		return fmt.Errorf("which instance the database is: %w", err)
	}
	was := s.instances.Swap(&instances{known, found})
	if known == found {
		return nil
	}
	s.witness.forget()
	if was == nil || *was != (instances{known, found}) {
		s.log.Error("the database is another instance than the one known (restored, or another server took over): known decisions are "+
			"delivered, but nothing is prepared, rolled back or believed to be absent until an operator accepts it",
			"participant", s.options.Name, "known", known, "found", found)
	}
	return nil
}

// InstanceChanged reports whether the database is another instance than the one
// that was known, and which.
func (s *Store) InstanceChanged() (known, found string, changed bool) {
	found, known = s.Instance()
	return known, found, known != found
}

// trusted is an error while the instance has changed.
func (s *Store) trusted() error {
	if _, _, changed := s.InstanceChanged(); !changed {
		return nil
	}
	// The word may have been given to another endpoint.
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	if err := s.withControl(ctx, func(conn *pgx.Conn) error { return s.recognise(ctx, conn) }); err != nil {
		return participant.Transient(err)
	}
	known, found, changed := s.InstanceChanged()
	if !changed {
		return nil
	}
	return participant.Transient(fmt.Errorf("the database is instance %s, and %s is known: it was restored, or another server took over. "+
		"See that its data are whole, then accept it with 'concordat participants accept-instance %s'", found, known, s.options.Name))
}
