package postgres

// Schema are the statements that make what a Store needs, in their order. Open
// executes them unless the tables are there; a role that may not is told to
// have it done by one that may.
var Schema = []string{
	`CREATE SCHEMA IF NOT EXISTS concordat`,
	// One row a participant: whose data these are (P14).
	`CREATE TABLE IF NOT EXISTS concordat.participant (
	name        text COLLATE "C" PRIMARY KEY,
	incarnation text NOT NULL,
	instance    text NOT NULL,
	cluster_id  text NOT NULL DEFAULT '',
	generation  bigint NOT NULL DEFAULT 0,
	term        numeric(20) NOT NULL DEFAULT 0,
	floor       bytea NOT NULL DEFAULT ''
)`,
	// One row an id: the journal. A branch locks it, and what it writes there proves its commit.
	`CREATE TABLE IF NOT EXISTS concordat.entry (
	participant text COLLATE "C" NOT NULL,
	id          text COLLATE "C" NOT NULL,
	body        bytea NOT NULL,
	created_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (participant, id)
)`,
	// What must be remembered of an id while a branch has its entry locked.
	`CREATE TABLE IF NOT EXISTS concordat.overlay (
	participant text COLLATE "C" NOT NULL,
	id          text COLLATE "C" NOT NULL,
	body        bytea NOT NULL,
	result      bytea,
	created_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (participant, id)
)`,
}

// hasSchema is whether all of it is there and may be used.
const hasSchema = `SELECT count(*) = 3 AND coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')
	AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
	AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')), false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'concordat' AND c.relname IN ('participant', 'entry', 'overlay') AND c.relkind = 'r'`

// sqlThisDatabase is the one of the session. The view pg_prepared_xacts would
// look the names of all databases and roles up.
const sqlThisDatabase = `(SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())`

// The statements about one id; $1 is the participant.
const (
	// The list is read before the rows, in an earlier statement: see sqlbranch.Merge.
	sqlList = `SELECT gid FROM pg_catalog.pg_prepared_xact()
WHERE starts_with(gid, $1) AND right(gid, $2) = $3 AND dbid = ` + sqlThisDatabase
	sqlRows = `SELECT (SELECT body FROM concordat.entry WHERE participant = $1 AND id = $2),
	(SELECT body FROM concordat.overlay WHERE participant = $1 AND id = $2),
	(SELECT result FROM concordat.overlay WHERE participant = $1 AND id = $2)`
	sqlInsertEntry = `INSERT INTO concordat.entry (participant, id, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	sqlLockEntry   = `SELECT body FROM concordat.entry WHERE participant = $1 AND id = $2 FOR UPDATE`
	sqlUpdateEntry = `UPDATE concordat.entry SET body = $3 WHERE participant = $1 AND id = $2`
	sqlDeleteEntry = `DELETE FROM concordat.entry WHERE participant = $1 AND id = $2`
	sqlPutOverlay  = `INSERT INTO concordat.overlay (participant, id, body, result) VALUES ($1, $2, $3, $4)
ON CONFLICT (participant, id) DO UPDATE SET body = excluded.body, result = excluded.result`
	sqlNewOverlay    = `INSERT INTO concordat.overlay (participant, id, body, result) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	sqlDeleteOverlay = `DELETE FROM concordat.overlay WHERE participant = $1 AND id = $2`
	// How many rows of the journal the session has written, in this transaction and
	// in those before that it has not told the server's statistics of yet: it tells
	// between transactions, so within one this only grows by what that one writes,
	// by whatever detour. Without track_counts it is always 0.
	sqlWritten = `(SELECT sum(pg_stat_get_xact_tuples_inserted(c) + pg_stat_get_xact_tuples_updated(c) + pg_stat_get_xact_tuples_deleted(c))::bigint
FROM unnest('{concordat.participant, concordat.entry, concordat.overlay}'::regclass[]) c)`
	// For this transaction alone, also one that a batch makes.
	sqlNoWait = `SELECT set_config('synchronous_commit', 'off', true)`
)
