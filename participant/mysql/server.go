package mysql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// server is what must be known of the database server.
type server struct {
	version string
	mariaDB bool
	major   int
	minor   int
	patch   int
	// detaches: a branch is nobody's as soon as it is prepared (MySQL 8.0.29
	// and later), so any session may finish it.
	detaches bool
	// noWait: SELECT … FOR UPDATE NOWAIT is understood.
	noWait bool
}

// readVersion reads VERSION(): 10.11.19-MariaDB-…, 5.5.5-10.11.19-MariaDB, 8.0.36.
func readVersion(version string) (s server, err error) {
	s.version = version
	s.mariaDB = strings.Contains(strings.ToLower(version), "mariadb")
	numbers := version
	if s.mariaDB {
		numbers = strings.TrimPrefix(numbers, "5.5.5-") // for clients that believed there is nothing above 5
	}
	numbers, _, _ = strings.Cut(numbers, "-")
	parts := strings.SplitN(numbers, ".", 3)
	for i, n := range []*int{&s.major, &s.minor, &s.patch} {
		if i < len(parts) {
			if *n, err = strconv.Atoi(parts[i]); err != nil {
				return s, fmt.Errorf("the server's version %q cannot be read", version)
			}
		}
	}
	s.noWait = s.mariaDB || s.major >= 8
	return s, nil
}

func (s server) atLeast(major, minor, patch int) bool {
	switch {
	case s.major != major:
		return s.major > major
	case s.minor != minor:
		return s.minor > minor
	}
	return s.patch >= patch
}

// supported refuses servers that roll a prepared branch back when its session ends.
func (s server) supported() error {
	if s.mariaDB && !s.atLeast(10, 5, 0) {
		return fmt.Errorf("MariaDB %s is not supported: before 10.5 a prepared branch is lost with its session; upgrade the server", s.version)
	}
	if !s.mariaDB && !s.atLeast(5, 7, 7) {
		return fmt.Errorf("MySQL %s is not supported: before 5.7.7 a prepared branch is lost with its session; upgrade the server", s.version)
	}
	return nil
}

func (s server) kind() string {
	if s.mariaDB {
		return "mariadb"
	}
	return "mysql"
}

// lockNow is the clause of a SELECT that must not wait for a lock.
func (s server) lockNow() string {
	if s.noWait {
		return " FOR UPDATE NOWAIT"
	}
	return " FOR UPDATE"
}

// variables reads global variables and settings; those that the server does
// not have are not in the map.
func (m *Manager) variables(ctx context.Context, names ...string) (map[string]string, error) {
	found := make(map[string]string, len(names))
	rows, err := m.control.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		found[strings.ToLower(name)] = value
	}
	return found, rows.Err()
}

// inspect refuses servers on which a vote would be no promise (P5).
func (m *Manager) inspect(ctx context.Context) error {
	var version string
	if err := m.control.QueryRowContext(ctx, "SELECT VERSION(), DATABASE()").Scan(&version, &m.schema); err != nil {
		return err
	}
	s, err := readVersion(version)
	if err != nil {
		return err
	}
	if err := s.supported(); err != nil {
		return err
	}
	v, err := m.variables(ctx, "wsrep_on", "innodb_flush_log_at_trx_commit",
		"xa_detach_on_prepare", "log_bin", "sync_binlog", "read_only", "super_read_only", "max_connections")
	if err != nil {
		return err
	}
	s.detaches = isOn(v["xa_detach_on_prepare"])
	m.server = s
	limit, _ := strconv.Atoi(v["max_connections"])
	switch {
	case isOn(v["wsrep_on"]):
		return fmt.Errorf("the server is a Galera node (wsrep_on), where XA is not allowed: use a server without Galera")
	case v["innodb_flush_log_at_trx_commit"] != "1":
		return fmt.Errorf("innodb_flush_log_at_trx_commit is %s: a prepared branch could be lost with the machine; SET GLOBAL innodb_flush_log_at_trx_commit = 1",
			v["innodb_flush_log_at_trx_commit"])
	case isOn(v["read_only"]) || isOn(v["super_read_only"]):
		return fmt.Errorf("the server is read-only (a replica?): give the DSN of the primary")
	case limit > 0 && limit < m.sessions()+controlConnections+looseConnections+reserve:
		return fmt.Errorf("max_connections is %d, and %d are needed: raise it, or lower the participant's MaxBranches",
			limit, m.sessions()+controlConnections+looseConnections+reserve)
	}
	if isOn(v["log_bin"]) && v["sync_binlog"] != "1" {
		m.log.Warn("the binary log is not synced at every commit: after a crash of the machine, replicas and recovery may miss branches; "+
			"SET GLOBAL sync_binlog = 1", "participant", m.options.Name, "sync_binlog", v["sync_binlog"])
	}
	return m.privileges(ctx)
}

func isOn(value string) bool { return value == "ON" || value == "1" }

// privileges tries what will be needed; the database says what it refuses.
func (m *Manager) privileges(ctx context.Context) error {
	need := []struct{ statement, grant string }{
		{"SELECT COUNT(*) FROM information_schema.innodb_trx", "GRANT PROCESS ON *.* TO the participant's user"},
		{"XA RECOVER", "GRANT XA_RECOVER_ADMIN ON *.* TO the participant's user"},
	}
	for _, n := range need {
		if _, err := m.control.ExecContext(ctx, n.statement); err != nil {
			return fmt.Errorf("the user may not %s: %s: %w", n.statement, n.grant, err)
		}
	}
	return nil
}
