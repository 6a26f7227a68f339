package mysql

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var _ participant.Database = (*Manager)(nil)

const (
	// maxCensus and maxBlocks bound what a census tells.
	maxCensus = 10_000
	maxBlocks = 20
)

// Census tells of every prepared branch of the server. The server knows no age,
// owner or database of them: their age is since this process first saw them.
func (m *Manager) Census(ctx context.Context) (*pb.CensusResponse, error) {
	found, err := m.Survey(ctx)
	if err != nil {
		return nil, err
	}
	out := &pb.CensusResponse{}
	for _, p := range found.Prepared[:min(len(found.Prepared), maxCensus)] {
		one := &pb.PreparedTransaction{Name: p.Name, Owner: p.Kinship.Proto(), AgeSeconds: p.Age.Seconds()}
		if p.Kinship == sqlbranch.Ours {
			one.Id, one.Attempt = p.Ref.ID, rpc.AttemptProto(p.Ref.Attempt)
		}
		for _, session := range p.Blocks[:min(len(p.Blocks), maxBlocks)] {
			one.Blocks = append(one.Blocks, strconv.FormatUint(session, 10))
		}
		out.Prepared = append(out.Prepared, one)
	}
	return out, nil
}

// Diagnose looks at the server's version, its settings and the user.
func (m *Manager) Diagnose(ctx context.Context) (list []*pb.Finding, err error) {
	judge := func(ok bool, level pb.Finding_Level, subject, fine, wrong, mend string) {
		if ok {
			level, wrong, mend = pb.Finding_FINE, fine, ""
		}
		list = append(list, &pb.Finding{Level: level, Subject: subject, Message: wrong, Mend: mend})
	}
	v, err := m.variables(ctx, "wsrep_on", "innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog", "read_only", "super_read_only",
		"max_connections", "wait_timeout", "innodb_rollback_on_timeout", "default_storage_engine")
	if err != nil {
		return nil, m.shown("diagnose", err)
	}
	s := m.server
	judge(s.supported() == nil, pb.Finding_BROKEN, "version", s.version, s.version+": prepared branches are lost with their sessions", "upgrade the server")
	judge(!isOn(v["wsrep_on"]), pb.Finding_BROKEN, "wsrep_on", "no Galera", "a Galera node, where XA is not allowed", "use a server without Galera")
	judge(!isOn(v["read_only"]) && !isOn(v["super_read_only"]), pb.Finding_BROKEN, "read_only", "writable", "the server is read-only (a replica?)", "give the DSN of the primary")
	judge(v["innodb_flush_log_at_trx_commit"] == "1", pb.Finding_BROKEN, "innodb_flush_log_at_trx_commit", "1",
		v["innodb_flush_log_at_trx_commit"]+": a prepared branch could be lost with the machine", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
	judge(!isOn(v["log_bin"]) || v["sync_binlog"] == "1", pb.Finding_ADVICE, "sync_binlog", "1, or no binary log",
		v["sync_binlog"]+": after a crash of the machine replicas and recovery may miss branches", "SET GLOBAL sync_binlog = 1")
	_, err = m.control.ExecContext(ctx, s.sqlLockWaits())
	judge(err == nil, pb.Finding_ADVICE, "lock waits", "readable", fmt.Sprintf("not readable, so a census does not tell whom a branch blocks: %v", err),
		"GRANT SELECT ON performance_schema.* TO the participant's user")
	var connections, wait int
	_, _ = fmt.Sscan(v["max_connections"], &connections) // what is not told is 0, and shown so
	_, _ = fmt.Sscan(v["wait_timeout"], &wait)
	need := m.sessions() + controlConnections + looseConnections + reserve
	judge(connections >= need, pb.Finding_BROKEN, "max_connections", fmt.Sprint(connections),
		fmt.Sprintf("%d, and %d are needed", connections, need), fmt.Sprintf("SET GLOBAL max_connections = %d", need))
	judge(s.detaches || time.Duration(wait)*time.Second >= pinnedFor, pb.Finding_ADVICE, "wait_timeout", fmt.Sprintf("%d s", wait),
		fmt.Sprintf("%d s: the session of a branch that waits longer for its decision is ended; the branch stays prepared and is finished by another session", wait),
		"SET GLOBAL wait_timeout = 28800")
	return append(list, m.tablesWithoutTransactions(ctx)...), nil
}

// pinnedFor is how long a prepared branch may have to keep its session.
const pinnedFor = 10 * time.Minute

// tablesWithoutTransactions are those of this database that no branch may touch.
func (m *Manager) tablesWithoutTransactions(ctx context.Context) (list []*pb.Finding) {
	rows, err := m.control.QueryContext(ctx, withoutTransactions+" AND table_schema = DATABASE()")
	if err != nil {
		return []*pb.Finding{{Level: pb.Finding_ADVICE, Subject: "engines", Message: m.shown("look at the engines", err).Error(), Mend: "see to the user's privileges"}}
	}
	defer rows.Close()
	for rows.Next() {
		var schema, table, engine string
		if err := rows.Scan(&schema, &table, &engine); err != nil {
			break // what was read is told
		}
		list = append(list, &pb.Finding{
			Level: pb.Finding_ADVICE, Subject: "engine of " + table, Message: engine + " has no transactions: branches that touch the table are refused",
			Mend: "ALTER TABLE " + schema + "." + table + " ENGINE = InnoDB",
		})
	}
	if err := rows.Err(); err == nil && len(list) == 0 {
		list = append(list, &pb.Finding{Level: pb.Finding_FINE, Subject: "engines", Message: "every table has transactions"})
	}
	return list
}
