package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Prepared is one prepared branch of the database server, whoever made it.
type Prepared struct {
	// Name is the branch in SQL, as XA COMMIT takes it.
	Name string
	Kin  sqlbranch.Kinship
	// Ref and Since are set if it is ours; Since is when this process first saw it.
	Ref   participant.Ref
	Since time.Time
}

// Census lists every prepared branch of the server. Those that are not ours are
// shown and never touched.
func (m *Manager) Census(ctx context.Context) ([]Prepared, error) {
	var all []Prepared
	var ours []participant.Ref
	err := m.recover(ctx, func(p Prepared) {
		all = append(all, p)
		if p.Kin == sqlbranch.Ours {
			ours = append(ours, p.Ref)
		}
	})
	if err != nil {
		return nil, m.shown("census", err)
	}
	when := m.since.keep(ours, time.Now())
	for i, p := range all {
		if p.Kin == sqlbranch.Ours {
			all[i].Since = when[p.Ref]
		}
	}
	return all, nil
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
		p.Ref, p.Kin = owner.ParseXID(data[:global], data[global:])
		each(p)
	}
	return rows.Err()
}
