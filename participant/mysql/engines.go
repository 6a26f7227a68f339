package mysql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// enginesAge is how old the list of tables without transactions may be.
const enginesAge = 10 * time.Second

// engines knows the tables whose engine has no transactions, MyISAM above all:
// what a branch writes there stays although it is rolled back, and the
// database says nothing. So a statement that names one, or a view or routine
// that does, is refused.
type engines struct {
	m *Manager

	mu      sync.Mutex // guards what follows
	names   map[string]string
	read    time.Time // zero before Open's
	reading bool
}

func newEngines(m *Manager) *engines { return &engines{m: m} }

const withoutTransactions = "SELECT table_schema, table_name, engine FROM information_schema.tables" +
	" WHERE table_type = 'BASE TABLE' AND engine IS NOT NULL" +
	" AND engine NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES' AND xa = 'YES')" +
	" AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"

// what may write to a table whose name it does not show.
const indirect = "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema NOT IN ('mysql', 'sys')" +
	" UNION ALL SELECT event_object_table, action_statement FROM information_schema.triggers" +
	" UNION ALL SELECT routine_name, COALESCE(routine_definition, '') FROM information_schema.routines WHERE routine_schema NOT IN ('mysql', 'sys')"

// refresh reads the list again if it is old. While one branch does, others go by
// the old one: on a server with many tables it takes its time.
func (e *engines) refresh(ctx context.Context) error {
	e.mu.Lock()
	if time.Since(e.read) < enginesAge || e.reading {
		e.mu.Unlock()
		return nil
	}
	e.reading = true
	e.mu.Unlock()
	names, err := e.load(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reading = false
	if err == nil {
		e.names, e.read = names, time.Now()
	}
	return err
}

func (e *engines) load(ctx context.Context) (map[string]string, error) {
	names := map[string]string{}
	rows, err := e.m.control.QueryContext(ctx, withoutTransactions)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var schema, table, engine string
		if err := rows.Scan(&schema, &table, &engine); err != nil {
			return nil, err
		}
		names[strings.ToLower(table)] = fmt.Sprintf("table %s.%s has the engine %s", schema, table, engine)
	}
	if err := rows.Err(); err != nil || len(names) == 0 {
		return names, err
	}
	return names, e.follow(ctx, names)
}

// follow adds what leads to those tables, at any remove.
func (e *engines) follow(ctx context.Context, names map[string]string) error {
	rows, err := e.m.control.QueryContext(ctx, indirect)
	if err != nil {
		return err
	}
	defer rows.Close()
	bodies := map[string]string{}
	for rows.Next() {
		var name, body string
		if err := rows.Scan(&name, &body); err != nil {
			return err
		}
		bodies[strings.ToLower(name)] += " " + body
	}
	for found := true; found; {
		found = false
		for name, body := range bodies {
			if names[name] != "" {
				continue
			}
			if why := mentions(body, names); why != "" {
				names[name], found = why, true
			}
		}
	}
	return rows.Err()
}

// mentions says why a statement is refused, if it names one of those tables.
// Names in strings and comments count as well: better one too many.
func mentions(statement string, names map[string]string) string {
	if len(names) == 0 {
		return ""
	}
	words := strings.FieldsFunc(strings.ToLower(statement), func(r rune) bool {
		return r != '_' && r != '$' && r < 0x80 && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
	for _, w := range words {
		if why := names[w]; why != "" {
			return why
		}
	}
	return ""
}

// warn tells of such tables at the start.
func (e *engines) warn(ctx context.Context) error {
	if err := e.refresh(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if tables := slices.Sorted(maps.Values(e.names)); len(tables) > 0 {
		e.m.log.Warn("there are tables without transactions: branches that touch them are refused; ALTER TABLE … ENGINE=InnoDB",
			"participant", e.m.options.Name, "tables", slices.Compact(tables))
	}
	return nil
}

// judge refuses what cannot be part of a branch.
func (e *engines) judge(query string) error {
	if word := first(query); forbidden[word] {
		return Abort(pb.Reason_UNSUPPORTED, word+" cannot be part of a branch: it ends the transaction, outlives it or hides what it does; "+
			"Concordat begins and ends the transaction itself")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if why := mentions(query, reserved); why != "" {
		return Abort(pb.Reason_UNSUPPORTED, why)
	}
	if why := mentions(query, e.names); why != "" {
		return Abort(pb.Reason_UNSUPPORTED, why+", which has no transactions: what a branch writes there could not be rolled back; "+
			"ALTER TABLE … ENGINE=InnoDB")
	}
	return nil
}

// reserved are names that no statement of a branch may use.
var reserved = map[string]string{
	"concordat_participant": "the tables of the journal are not for branches",
	"concordat_entry":       "the tables of the journal are not for branches",
	"concordat_overlay":     "the tables of the journal are not for branches",
	"get_lock":              "user-level locks outlive the branch: lock rows, with SELECT … FOR UPDATE",
	"release_lock":          "user-level locks outlive the branch: lock rows, with SELECT … FOR UPDATE",
	"release_all_locks":     "user-level locks outlive the branch: lock rows, with SELECT … FOR UPDATE",
}

// forbidden are the first words of statements that end a transaction, change
// the session that others will use, or create what does not roll back.
var forbidden = map[string]bool{}

func init() {
	for _, w := range strings.Fields("ALTER ANALYZE BACKUP BEGIN BINLOG CACHE CHANGE CHECK CHECKSUM COMMIT CREATE DEALLOCATE DROP EXECUTE FLUSH GRANT " +
		"HANDLER INSTALL KILL LOAD LOCK OPTIMIZE PREPARE PURGE RENAME REPAIR RESET REVOKE ROLLBACK SET SHUTDOWN START STOP TRUNCATE UNINSTALL UNLOCK USE XA") {
		forbidden[w] = true
	}
}

// first is the first word of a statement, in capitals, after comments.
func first(query string) string {
	for {
		query = strings.TrimLeft(query, " \t\r\n\f\v;(")
		switch {
		case strings.HasPrefix(query, "#"), strings.HasPrefix(query, "-- "), strings.HasPrefix(query, "--\t"), strings.HasPrefix(query, "--\n"):
			_, query, _ = strings.Cut(query, "\n")
		case strings.HasPrefix(query, "/*!"):
			query = strings.TrimLeft(query[3:], "0123456789")
		case strings.HasPrefix(strings.ToUpper(query), "/*M!"):
			query = strings.TrimLeft(query[4:], "0123456789")
		case strings.HasPrefix(query, "/*"):
			_, query, _ = strings.Cut(query, "*/")
		default:
			end := strings.IndexFunc(query, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
			if end < 0 {
				end = len(query)
			}
			return strings.ToUpper(query[:end])
		}
	}
}
