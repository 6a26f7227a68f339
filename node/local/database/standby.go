package database

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Standby starts a server that follows this one, as a copy of all its databases.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	s := newPostgres(p.bin, p.password)
	if err := s.place(Place{}, "postgres"); err != nil {
		return nil, err
	}
	cmd := p.user.command(filepath.Join(p.bin, "pg_basebackup"), "--pgdata", s.Dir(), "--write-recovery-conf", "--checkpoint", "fast",
		"--no-sync", "--host", "127.0.0.1", "--port", strconv.Itoa(p.port), "--username", postgresAdmin)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+p.password)
	if err := p.user.run(ctx, cmd); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Restart(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Promote makes a standby a primary.
func (p *Postgres) Promote(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, p.AdminDSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var promoted bool
	err = conn.QueryRow(ctx, "SELECT pg_promote()").Scan(&promoted)
	if err == nil && !promoted {
		err = errors.New("the standby was not promoted")
	}
	return err
}
