package mysql

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

// instance remembers which database server the data were on. A restored or
// promoted one may have lost what was promised: until an operator accepts it,
// known decisions are delivered and proven, nothing is rolled back, nothing that
// is missing is believed, and no new branch is begun.
type instance struct {
	mu       sync.Mutex // guards what follows
	accepted string     // empty until begin
	now      string
}

// see looks at a new connection's server.
func (i *instance) see(ctx context.Context, c driverConn) error {
	id, err := serverID(ctx, c)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = id
	return nil
}

// serverID is what tells one set of data on one server from a copy of it. MySQL
// keeps a random one beside the data, and backups leave it out. MariaDB has
// only one of the machine and the port, so the birth of the participant's table
// in the file system goes with it, which a restored copy does not share.
func serverID(ctx context.Context, c driverConn) (string, error) {
	uid, err := scalar(ctx, c, "SELECT GROUP_CONCAT(variable_value ORDER BY variable_name SEPARATOR ' ') FROM information_schema.global_variables"+
		" WHERE variable_name IN ('SERVER_UID', 'DATADIR')")
	if err != nil {
		uid, err = scalar(ctx, c, "SELECT @@server_uuid") // MySQL
		return uid, err
	}
	// Read in one time zone, whichever the session is to have.
	if _, err := c.ExecContext(ctx, "SET @concordat_zone = @@session.time_zone, time_zone = '+00:00'", nil); err != nil {
		return "", err
	}
	born, err := scalar(ctx, c, "SELECT CREATE_TIME FROM information_schema.tables"+
		" WHERE table_schema = DATABASE() AND table_name = 'concordat_participant'")
	if isEOF(err) {
		err = nil // the table is about to be made
	}
	if err == nil {
		_, err = c.ExecContext(ctx, "SET time_zone = @concordat_zone, @concordat_zone = NULL", nil)
	}
	return strings.TrimSpace(uid + " " + born), err
}

// begin compares the server with the one that the participant's row names.
func (i *instance) begin(ctx context.Context, m *Manager) error {
	c, err := m.control.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Raw(func(raw any) error { return i.see(ctx, raw.(*conn)) }); err != nil {
		return err
	}
	var accepted string
	if err := c.QueryRowContext(ctx, "SELECT instance FROM concordat_participant WHERE name = ?", m.options.Name).Scan(&accepted); err != nil {
		return err
	}
	i.mu.Lock()
	now := i.now
	i.accepted = accepted
	i.mu.Unlock()
	if accepted == "" {
		return m.AcceptInstance(ctx, now)
	}
	if accepted != now {
		m.log.Error("the data are on another database server than before (restored, or failed over?): nothing is rolled back and no branch "+
			"is begun until an operator accepts it", "participant", m.options.Name, "before", accepted, "now", now)
	}
	return nil
}

// trusted is an error while the server is not accepted. The word may have been
// given to another instance of the participant, or to a command.
func (m *Manager) trusted(ctx context.Context) error {
	if _, _, changed := m.InstanceChanged(); !changed {
		return nil
	}
	var accepted string
	if err := m.control.QueryRowContext(ctx, "SELECT instance FROM concordat_participant WHERE name = ?", m.options.Name).Scan(&accepted); err != nil {
		return participant.Transient(err)
	}
	i := m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	i.accepted = accepted
	if i.accepted == i.now {
		return nil
	}
	return participant.Transient(fmt.Errorf("the data are on another database server than before (restored, or failed over?): "+
		"what is missing there proves nothing; an operator must accept it (before: %s; now: %s)", i.accepted, i.now))
}

// InstanceChanged reports whether the database server is another than the one
// that was accepted.
func (m *Manager) InstanceChanged() (old, now string, changed bool) {
	i := m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.accepted, i.now, i.accepted != "" && i.accepted != i.now
}

// Instance is the server that the newest connection led to, and the one that the
// data are bound to.
func (m *Manager) Instance() (now, bound string) {
	i := m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now, i.accepted
}

// AcceptInstance is the operator's word that the data of the present server are
// what they should be.
func (m *Manager) AcceptInstance(ctx context.Context, instance string) error {
	m.instance.mu.Lock()
	now := m.instance.now
	m.instance.mu.Unlock()
	if instance != now {
		return participant.ErrInstance
	}
	err := m.options.around(func() error {
		_, err := m.control.ExecContext(ctx, "UPDATE concordat_participant SET instance = ? WHERE name = ?", now, m.options.Name)
		return err
	})
	if err != nil {
		return m.shown("accept the instance", err)
	}
	m.instance.mu.Lock()
	defer m.instance.mu.Unlock()
	m.instance.accepted = now
	return nil
}
