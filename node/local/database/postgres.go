package database

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const postgresAdmin = "admin"

// Postgres is a private PostgreSQL server.
type Postgres struct {
	server
	bin      string
	password string
	made     atomic.Int64 // databases
}

// StartPostgres makes a server and starts it. settings are lines of
// postgresql.conf; max_prepared_transactions is 200 unless they say otherwise.
func StartPostgres(ctx context.Context, place Place, settings map[string]string) (*Postgres, error) {
	bin, err := findPostgres(place.Programs)
	if err != nil {
		return nil, err
	}
	p := newPostgres(bin, rand.Text())
	if err := p.place(place, "postgres"); err != nil {
		return nil, err
	}
	if err := p.initialize(ctx, settings); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.Restart(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func newPostgres(bin, password string) *Postgres {
	p := &Postgres{bin: bin, password: password}
	p.server.name, p.stop, p.command, p.answers = "PostgreSQL", syscall.SIGINT, p.line, p.ping
	return p
}

func (p *Postgres) initialize(ctx context.Context, settings map[string]string) error {
	password := filepath.Join(p.dir, "password")
	if err := p.user.write(password, p.password+"\n"); err != nil {
		return err
	}
	if err := p.user.run(ctx, p.user.command(filepath.Join(p.bin, "initdb"), "--pgdata", p.Dir(), "--username", postgresAdmin, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")); err != nil {
		return err
	}
	conf := map[string]string{
		"listen_addresses": "'127.0.0.1'", "unix_socket_directories": "''", "max_prepared_transactions": "200",
		"max_connections": "150", "shared_buffers": "'32MB'",
	}
	for name, value := range settings {
		conf[name] = value
	}
	text := ""
	for name, value := range conf {
		text += name + " = " + value + "\n"
	}
	return p.user.write(filepath.Join(p.Dir(), "concordat.conf"), text)
}

func (p *Postgres) line(bool) []string {
	return []string{filepath.Join(p.bin, "postgres"), "-D", p.Dir(), "-p", strconv.Itoa(p.port),
		"-c", "config_file=" + filepath.Join(p.Dir(), "concordat.conf")}
}

func (p *Postgres) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.AdminDSN("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Close kills the server and removes its data, unless they were given a place.
func (p *Postgres) Close() error { return p.close() }

// DSN is for a role with the password of the server.
func (p *Postgres) DSN(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, p.password), Host: p.Address(), Path: "/" + database}
	return u.String()
}

// AdminDSN is for the superuser.
func (p *Postgres) AdminDSN(database string) string { return p.DSN(postgresAdmin, database) }

// Password is that of every role that is made here: no log may show it.
func (p *Postgres) Password() string { return p.password }

// NewDatabase makes an empty database with an owner, a role of the same name
// that may do nothing else, and returns that name.
func (p *Postgres) NewDatabase(ctx context.Context) (name string, err error) {
	conn, err := pgx.Connect(ctx, p.AdminDSN("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	name = fmt.Sprintf("db%d", p.made.Add(1))
	for _, sql := range []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", name, p.password),
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, name),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql[:15], err)
		}
	}
	return name, nil
}
