package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

const bindingColumns = "incarnation, cluster_id, generation, term, floor_generation, floor_term, floor_sequence"

// Identity reads the participant's row.
func (m *Manager) Identity(ctx context.Context) (participant.Identity, error) {
	id := participant.Identity{Kind: cmp.Or(m.options.Kind, m.server.kind())}
	err := scanBinding(m.control.QueryRowContext(ctx,
		"SELECT "+bindingColumns+" FROM concordat_participant WHERE name = ?", m.options.Name), &id)
	return id, m.shown("identity", err)
}

func scanBinding(row *sql.Row, id *participant.Identity) error {
	b := &id.Binding
	return row.Scan(&id.Incarnation, &b.ClusterID, &b.Generation, &b.Term, &b.Floor.Generation, &b.Floor.Term, &b.Floor.Sequence)
}

// Bind makes a newer binding durable. Several processes may serve one
// participant: what another has raised is never lowered.
func (m *Manager) Bind(ctx context.Context, b participant.Binding) error {
	err := m.options.around(func() error { return m.bind(ctx, b) })
	if err == nil {
		m.adopt(b.ClusterID)
	}
	return m.shown("bind", err)
}

func (m *Manager) bind(ctx context.Context, b participant.Binding) error {
	tx, err := m.control.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	old, err := m.lockBinding(ctx, tx)
	if err != nil {
		return err
	}
	if old.ClusterID != "" && old.ClusterID != b.ClusterID {
		return fmt.Errorf("the data belong to cluster %s, not to %s", old.ClusterID, b.ClusterID)
	}
	next := newest(old, b)
	if next == old {
		return nil
	}
	return storeBinding(ctx, tx, m.options.Name, next)
}

// newest is the higher of both in everything.
func newest(old, b participant.Binding) participant.Binding {
	next := old
	next.ClusterID = b.ClusterID
	if old.Generation < b.Generation || old.Generation == b.Generation && old.Term < b.Term {
		next.Generation, next.Term = b.Generation, b.Term
	}
	next.Floor = higher(old.Floor, b.Floor)
	return next
}

func higher(a, b rpc.Attempt) rpc.Attempt {
	if a.Less(b) {
		return b
	}
	return a
}

func (m *Manager) lockBinding(ctx context.Context, tx *sql.Tx) (participant.Binding, error) {
	var id participant.Identity
	err := scanBinding(tx.QueryRowContext(ctx,
		"SELECT "+bindingColumns+" FROM concordat_participant WHERE name = ? FOR UPDATE", m.options.Name), &id)
	return id.Binding, err
}

func storeBinding(ctx context.Context, tx *sql.Tx, name string, b participant.Binding) error {
	_, err := tx.ExecContext(ctx, "UPDATE concordat_participant SET cluster_id = ?, generation = ?, term = ?,"+
		" floor_generation = ?, floor_term = ?, floor_sequence = ? WHERE name = ?",
		b.ClusterID, b.Generation, b.Term, b.Floor.Generation, b.Floor.Term, b.Floor.Sequence, name)
	if err != nil {
		return err
	}
	return tx.Commit()
}
