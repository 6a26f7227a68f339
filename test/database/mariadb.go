package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// mariaDBStart is how long a server may take until it answers: recovery
	// after a kill on a busy machine included.
	mariaDBStart = 60 * time.Second
	// MariaDBPassword is of every user that Create makes; a test looks for it
	// where no password may show.
	MariaDBPassword = "s3cret-of-mariadb"
)

// MariaDB is a private server on a directory of its own: nobody else's data are
// near it, and it may be killed.
type MariaDB struct {
	dir, socket string
	port        int
	args        []string
	user        account
	admin       *sql.DB
	made        atomic.Int64

	server *exec.Cmd
	exited chan struct{}
}

// StartMariaDB makes a server and starts it. args are further arguments of mariadbd.
func StartMariaDB(ctx context.Context, args ...string) (*MariaDB, error) {
	install, err := mariaDBProgram("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	m := &MariaDB{args: args}
	if m.user, err = unprivileged("mysql"); err != nil {
		return nil, err
	}
	if m.dir, err = m.user.directory("concordat-mariadb-"); err != nil {
		return nil, err
	}
	m.socket = filepath.Join(m.dir, "socket")
	if err := m.start(ctx, install); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *MariaDB) start(ctx context.Context, install string) (err error) {
	if m.port, err = freePort(); err != nil {
		return err
	}
	made := m.user.command(install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
		"--datadir="+m.Dir(), "--tmpdir="+m.dir, "--innodb-log-file-size=16M")
	if out, err := made.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	if m.admin, err = m.openAdmin(); err != nil {
		return err
	}
	return m.Restart(ctx)
}

// mariaDBProgram finds a program of the server. A missing one is a failure of
// the run, never a reason to skip: what is not tested does not work.
func mariaDBProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s is not installed: apt-get install --no-install-recommends mariadb-server-core mariadb-client-core", name)
}

func (m *MariaDB) openAdmin() (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.InterpolateParams = "root", "unix", m.socket, true
	cfg.Logger = &mysql.NopLogger{} // it speaks of every connection that a kill ends
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Restart starts the server on its directory, after a Kill or a Stop, and
// returns when it answers.
func (m *MariaDB) Restart(ctx context.Context) error {
	server, err := mariaDBProgram("mariadbd")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.server = m.user.command(server, append([]string{
		// A server that starts removes what others have in a shared directory for temporary files.
		"--no-defaults", "--datadir=" + m.Dir(), "--tmpdir=" + m.dir, "--socket=" + m.socket,
		"--pid-file=" + filepath.Join(m.dir, "pid"), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port),
		"--skip-name-resolve", "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--max-connections=300",
		"--performance-schema=off",
	}, m.args...)...)
	m.server.Stdout, m.server.Stderr = log, log
	if err := m.server.Start(); err != nil {
		return err
	}
	m.exited = make(chan struct{})
	go func(c *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = c.Wait() // how it ends is the caller's wish
	}(m.server, m.exited)
	return m.answers(ctx)
}

// answers waits until the server takes a query.
func (m *MariaDB) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mariaDBStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := m.admin.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-m.exited:
			said, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			return fmt.Errorf("mariadbd ended at its start:\n%s", said)
		case <-ctx.Done():
			return fmt.Errorf("mariadbd does not answer: %w", err)
		}
	}
}

// Kill ends the server as kill -9 does.
func (m *MariaDB) Kill() error { return m.end(syscall.SIGKILL) }

// Stop ends the server as its operator would.
func (m *MariaDB) Stop() error { return m.end(syscall.SIGTERM) }

func (m *MariaDB) end(s syscall.Signal) error {
	if m.server == nil {
		return nil
	}
	err := m.server.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-m.exited
	return err
}

// Create makes an empty database with a user of its own, who may do what a
// participant needs, and returns the user's DSN.
func (m *MariaDB) Create(ctx context.Context) (string, error) {
	name := fmt.Sprintf("t%d", m.made.Add(1))
	for _, statement := range []string{
		"CREATE DATABASE " + name + " CHARACTER SET utf8mb4",
		"CREATE USER " + name + "@'127.0.0.1' IDENTIFIED BY '" + MariaDBPassword + "'",
		"GRANT ALL ON " + name + ".* TO " + name + "@'127.0.0.1'",
		"GRANT PROCESS ON *.* TO " + name + "@'127.0.0.1'",
	} {
		if _, err := m.admin.ExecContext(ctx, statement); err != nil {
			return "", err
		}
	}
	return m.DSN(name, MariaDBPassword, name), nil
}

// DSN is the address of a database for a user, over TCP.
func (m *MariaDB) DSN(user, password, name string) string {
	return fmt.Sprintf("%s:%s@tcp(127.0.0.1:%d)/%s", user, password, m.port, name)
}

// Admin is a pool of the server's root user.
func (m *MariaDB) Admin() *sql.DB { return m.admin }

// Dir is where the server's data are; a copy of it, made while the server is
// down, is a backup.
func (m *MariaDB) Dir() string { return filepath.Join(m.dir, "data") }

// Close kills the server and removes its data.
func (m *MariaDB) Close() error {
	err := m.Kill()
	if m.admin != nil {
		_ = m.admin.Close() // it complains of connections that the kill has ended
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}
