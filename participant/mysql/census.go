package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Census is every prepared branch of the database server, ours or not.
type Census struct {
	Prepared []Prepared
}

// Prepared is a prepared branch.
type Prepared struct {
	// Name is the branch in SQL, as XA COMMIT takes it.
	Name    string
	Kinship sqlbranch.Kinship
	// Ref is the branch, if it is ours.
	Ref participant.Ref
	// Age is since this process first saw it: the server remembers none.
	Age time.Duration
	// Blocks are the sessions that wait for it.
	Blocks []uint64
}

// Survey lists them. Those that are not ours are shown and never touched; those
// of other databases of the server are another participant's.
func (m *Manager) Survey(ctx context.Context) (Census, error) {
	var c Census
	var names []string
	err := m.recover(ctx, func(p Prepared) {
		c.Prepared, names = append(c.Prepared, p), append(names, p.Name)
	})
	if err != nil {
		return Census{}, m.shown("census", err)
	}
	now := time.Now()
	when := m.sinceAny.keep(names, now)
	for i, p := range c.Prepared {
		c.Prepared[i].Age = now.Sub(when[p.Name])
	}
	if err := m.blocks(ctx, c.Prepared); err != nil {
		return Census{}, m.shown("census", err)
	}
	return c, nil
}

// recover calls each with every prepared branch of the server.
func (m *Manager) recover(ctx context.Context, each func(p Prepared)) error {
	owner := m.owner.Load()
	rows, err := m.control.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var format int64
		var global, branch int
		var data []byte
		if err := rows.Scan(&format, &global, &branch, &data); err != nil {
			return err
		}
		if global < 0 || branch < 0 || global+branch != len(data) {
			return fmt.Errorf("XA RECOVER shows %d bytes, divided as %d and %d", len(data), global, branch)
		}
		p := Prepared{Name: xidLiteral(data[:global], data[global:], format)}
		p.Ref, p.Kinship = owner.ParseXID(data[:global], data[global:])
		each(p)
	}
	return rows.Err()
}
