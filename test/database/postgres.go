package database

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresAdmin    = "admin"
	postgresPassword = "geheim-7f3a"
)

// Postgres is a private PostgreSQL server.
type Postgres struct {
	bin  string
	dir  string
	port int
	user account
	cmd  *exec.Cmd
	// ended is closed when cmd has ended and is no zombie any more, which a new
	// server would take for a running one.
	ended chan struct{}
	made  atomic.Int64 // databases
}

// StartPostgres makes a server and starts it. settings are lines of
// postgresql.conf; max_prepared_transactions is 200 unless they say otherwise.
func StartPostgres(settings map[string]string) (*Postgres, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	p := &Postgres{bin: bin}
	if p.user, err = unprivileged("postgres"); err != nil {
		return nil, err
	}
	if p.dir, err = p.user.directory("concordat-postgres-"); err != nil {
		return nil, err
	}
	if err := p.initialize(settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	if err := p.Start(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

var postgresPackages = packages{"postgresql"}

func postgresBinaries() (string, error) {
	return postgresPackages.installed("PostgreSQL", newestPostgres)
}

// newestPostgres is the directory of the newest installed version's programs.
func newestPostgres() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	best, newest := "", 0
	for _, path := range found {
		dir := filepath.Dir(path)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > newest {
			best, newest = dir, v
		}
	}
	if best == "" {
		return "", errors.New("no /usr/lib/postgresql/*/bin/postgres")
	}
	return best, nil
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }
func (p *Postgres) log() string  { return filepath.Join(p.dir, "log") }

func (p *Postgres) initialize(settings map[string]string) error {
	password := filepath.Join(p.dir, "password")
	if err := os.WriteFile(password, []byte(postgresPassword+"\n"), 0o644); err != nil {
		return err
	}
	cmd := p.user.command(filepath.Join(p.bin, "initdb"), "--pgdata", p.data(), "--username", postgresAdmin, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
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
	return os.WriteFile(filepath.Join(p.data(), "concordat.conf"), []byte(text), 0o644)
}

// Start starts the server on its data, where it listened before.
func (p *Postgres) Start() error {
	for try := 1; ; try++ {
		if p.port == 0 {
			port, err := FreePort()
			if err != nil {
				return err
			}
			p.port = port
		}
		err := p.start()
		// Somebody else may have taken the port meanwhile; after the first start it has to be the same.
		if err == nil || try == 3 || p.made.Load() > 0 {
			return err
		}
		p.port = 0
	}
}

func (p *Postgres) start() error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = p.user.command(filepath.Join(p.bin, "postgres"), "-D", p.data(), "-p", strconv.Itoa(p.port),
		"-c", "config_file="+filepath.Join(p.data(), "concordat.conf"))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}(p.cmd, p.ended)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.AdminDSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.ended:
			return fmt.Errorf("postgres ended: %s", p.tail())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w: %s", err, p.tail())
		}
	}
}

func (p *Postgres) tail() string {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// Kill ends the server and all its processes with kill -9.
func (p *Postgres) Kill() error { return p.end(killTree) }

// Stop shuts the server down; connections are ended.
func (p *Postgres) Stop() error {
	return p.end(func(pid int) { _ = syscall.Kill(pid, syscall.SIGINT) })
}

func (p *Postgres) end(how func(pid int)) error {
	if p.cmd == nil {
		return nil
	}
	pid := p.cmd.Process.Pid
	family := append(children(pid), pid)
	how(pid)
	select {
	case <-p.ended:
	case <-time.After(patience):
		return fmt.Errorf("postgres does not end: %s", p.tail())
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := 0
		for _, process := range family {
			if alive(process) {
				left++
			}
		}
		if left == 0 {
			p.cmd = nil
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of postgres do not end: %s", left, p.tail())
		}
	}
}

// Close kills the server and removes its data.
func (p *Postgres) Close() error { return errors.Join(p.Kill(), os.RemoveAll(p.dir)) }

// Processes are the server's, which come and go with its sessions.
func (p *Postgres) Processes() []int {
	if p.cmd == nil {
		return nil
	}
	return append(children(p.cmd.Process.Pid), p.cmd.Process.Pid)
}

// Address is where it listens.
func (p *Postgres) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// DSN is for a role with the password of the server.
func (p *Postgres) DSN(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, postgresPassword), Host: p.Address(), Path: "/" + database}
	return u.String()
}

// AdminDSN is for the superuser.
func (p *Postgres) AdminDSN(database string) string { return p.DSN(postgresAdmin, database) }

// Password is that of every role that is made here: no log may show it.
func (p *Postgres) Password() string { return postgresPassword }

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
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", name, postgresPassword),
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, name),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql[:15], err)
		}
	}
	return name, nil
}
