package database

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

const mariaDBAdmin = "root"

// MariaDB is a private server on a directory of its own: nobody else's data are
// near it, and it may be killed.
type MariaDB struct {
	server
	programs mariaDBPrograms
	args     []string
	password string
	admin    *sql.DB
	made     atomic.Int64 // databases
}

// StartMariaDB makes a server and starts it. args are further arguments of mariadbd.
func StartMariaDB(ctx context.Context, place Place, args ...string) (*MariaDB, error) {
	programs, err := findMariaDB(place.Programs)
	if err != nil {
		return nil, err
	}
	m := &MariaDB{programs: programs, args: args, password: rand.Text()}
	m.server.name, m.stop, m.command, m.answers = "MariaDB", syscall.SIGTERM, m.line, m.ping
	if err := m.place(place, "mysql"); err != nil {
		return nil, err
	}
	if err := m.initialize(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *MariaDB) initialize(ctx context.Context) error {
	if err := m.user.run(ctx, m.user.command(m.programs.install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
		"--datadir="+m.Dir(), "--tmpdir="+m.dir, "--innodb-log-file-size=16M")); err != nil {
		return err
	}
	if err := m.user.write(m.accounts(), m.onlyAdmin()); err != nil {
		return err
	}
	if err := m.Restart(ctx); err != nil {
		return err
	}
	return os.Remove(m.accounts())
}

func (m *MariaDB) accounts() string { return filepath.Join(m.dir, "accounts.sql") }

// onlyAdmin leaves one administrator, with a password: those that a new server
// has need none, and anybody on the machine can reach its port. The server
// executes this before it listens.
func (m *MariaDB) onlyAdmin() string {
	admin := mariaDBAdmin + "@'127.0.0.1'"
	return strings.Join([]string{
		"DELETE FROM mysql.global_priv WHERE User IN ('', 'root');",
		"DELETE FROM mysql.proxies_priv WHERE User IN ('', 'root');",
		"FLUSH PRIVILEGES;",
		"CREATE USER " + admin + " IDENTIFIED BY '" + m.password + "';",
		"GRANT ALL ON *.* TO " + admin + " WITH GRANT OPTION;",
	}, "\n") + "\n"
}

func (m *MariaDB) line(first bool) []string {
	line := []string{
		// A server that starts removes what others have in a shared directory for temporary files.
		m.programs.server, "--no-defaults", "--datadir=" + m.Dir(), "--tmpdir=" + m.dir,
		// The path of a socket must be short, and this one is in the data directory.
		"--socket=socket", "--pid-file=" + filepath.Join(m.dir, "pid"), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port),
		"--skip-name-resolve", "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--max-connections=300",
		"--performance-schema=off",
	}
	if first {
		line = append(line, "--init-file="+m.accounts())
	}
	return append(line, m.args...)
}

// ping asks through the administrator's pool, which is made once the port is known.
func (m *MariaDB) ping(ctx context.Context) error {
	if m.admin == nil || !m.started {
		if err := m.openAdmin(); err != nil {
			return err
		}
	}
	return m.admin.PingContext(ctx)
}

func (m *MariaDB) openAdmin() error {
	if m.admin != nil { // of a port that was somebody else's
		_ = m.admin.Close()
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.InterpolateParams = mariaDBAdmin, m.password, "tcp", m.Address(), true
	cfg.Logger = &mysql.NopLogger{} // it speaks of every connection that a kill ends
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	m.admin = sql.OpenDB(c)
	return nil
}

// Create makes an empty database with a user of its own, who may do what a
// participant needs, and returns the user's DSN.
func (m *MariaDB) Create(ctx context.Context) (string, error) {
	name := fmt.Sprintf("t%d", m.made.Add(1))
	for _, statement := range []string{
		"CREATE DATABASE " + name + " CHARACTER SET utf8mb4",
		"CREATE USER " + name + "@'127.0.0.1' IDENTIFIED BY '" + m.password + "'",
		"GRANT ALL ON " + name + ".* TO " + name + "@'127.0.0.1'",
		"GRANT PROCESS ON *.* TO " + name + "@'127.0.0.1'",
	} {
		if _, err := m.admin.ExecContext(ctx, statement); err != nil {
			return "", err
		}
	}
	return m.DSN(name, m.password, name), nil
}

// Password is that of every user that is made here: no log may show it.
func (m *MariaDB) Password() string { return m.password }

// DSN is the address of a database for a user, over TCP.
func (m *MariaDB) DSN(user, password, name string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", user, password, m.Address(), name)
}

// Admin is a pool of the server's administrator.
func (m *MariaDB) Admin() *sql.DB { return m.admin }

// Close kills the server and removes its data, unless they were given a place.
func (m *MariaDB) Close() error {
	err := m.close()
	if m.admin != nil {
		_ = m.admin.Close() // it complains of connections that the kill has ended
	}
	return err
}
