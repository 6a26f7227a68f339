package postgres

import (
	"context"

	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Bounds of what is fine.
const (
	// roomForBranches is how much of the capacity may be used before that is worth a word.
	roomForBranches = 0.8
	// oldForeign is when somebody else's prepared transaction is likely forgotten.
	oldForeign = 10 * time.Minute
)

const sqlSettings = `SELECT current_setting('server_version'), current_setting('max_prepared_transactions')::int, current_setting('max_connections')::int,
	current_setting('synchronous_commit'), current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', pg_is_in_recovery(),
	extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval)::float8,
	(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)`

// Diagnose looks at the server's version, its settings and the role.
func (s *Store) Diagnose(ctx context.Context) (list []*pb.Finding, err error) {
	add := func(level pb.Finding_Level, subject, message, mend string) {
		list = append(list, &pb.Finding{Level: level, Subject: subject, Message: message, Mend: mend})
	}
	judge := func(ok bool, level pb.Finding_Level, subject, fine, wrong, mend string) {
		if ok {
			add(pb.Finding_FINE, subject, fine, "")
			return
		}
		add(level, subject, wrong, mend)
	}
	err = s.withControl(ctx, func(conn *pgx.Conn) error {
		var version, durability string
		var capacity, connections int
		var fsync, pages, standby, super bool
		var idle float64
		if err := conn.QueryRow(ctx, sqlSettings).Scan(&version, &capacity, &connections, &durability, &fsync, &pages, &standby, &idle, &super); err != nil {
			return fmt.Errorf("look at the server's settings: %w", err)
		}
		add(pb.Finding_FINE, "version", "PostgreSQL "+version, "")
		judge(!standby, pb.Finding_BROKEN, "role of the server", "it is a primary", "it is a standby, where nothing can be prepared",
			"give the address of the primary (several hosts with target_session_attrs=read-write find it)")
		judge(fsync && pages, pb.Finding_BROKEN, "fsync", "what is prepared is on the disk", "fsync or full_page_writes is off: a branch that voted may be lost with the machine",
			"ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()")
		judge(durability != "off", pb.Finding_ADVICE, "synchronous_commit", durability, "off; branches of this participant set it on for themselves",
			"ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()")
		judge(capacity >= s.options.MaxBranches, pb.Finding_BROKEN, "max_prepared_transactions", fmt.Sprint(capacity),
			fmt.Sprintf("%d, and %d branches are worked on at the same time", capacity, s.options.MaxBranches),
			fmt.Sprintf("ALTER SYSTEM SET max_prepared_transactions = %d, then restart the server", max(200, 4*s.options.MaxBranches)))
		judge(!super, pb.Finding_ADVICE, "privileges", "the role is no superuser", "the role is a superuser, which branches' statements are, too",
			"CREATE ROLE one for the participant, and grant it what it needs")
		judge(idle == 0 || idle > endedSessionGap.Seconds(), pb.Finding_ADVICE, "idle_in_transaction_session_timeout", fmt.Sprintf("%.0f s (0: none)", idle),
			fmt.Sprintf("%.1f s: branches that wait for their next statement are ended", idle), "ALTER ROLE the participant's SET idle_in_transaction_session_timeout = 0")
		return nil
	})
	if err != nil {
		return list, err
	}
	census, err := s.Survey(ctx)
	if err != nil {
		return list, err
	}
	used := len(census.Prepared)
	judge(float64(used) <= roomForBranches*float64(census.Capacity), pb.Finding_ADVICE, "capacity", fmt.Sprintf("%d of %d places for prepared transactions are taken", used, census.Capacity),
		fmt.Sprintf("%d of %d places for prepared transactions are taken: branches will be refused", used, census.Capacity), "concordat participants census "+s.options.Name)
	for _, p := range census.Prepared {
		if p.Age > oldForeign {
			add(pb.Finding_ADVICE, "old prepared transaction", fmt.Sprintf("%s of %s in %s has been prepared for %s: it holds its locks, and keeps %d transactions from being vacuumed",
				p.GID, p.Owner, p.Database, p.Age.Round(time.Second), p.Transactions), "see who made it; ours are settled by the cluster, others by COMMIT PREPARED or ROLLBACK PREPARED")
		}
	}
	return list, nil
}
