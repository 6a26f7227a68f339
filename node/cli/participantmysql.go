package cli

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/participant/mysql"
)

func newParticipantMySQLCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mysql --name NAME --dsn DSN --listen host:port",
		Short: "Run a participant over a MariaDB or MySQL database",
		Long: `Run a participant whose data are a MariaDB database (10.5 or newer, without Galera)
or a MySQL one (5.7.7 or newer). A branch's payload are the statements that it
executes: {"statements": [{"sql", "args", "rows"}]}, where rows is how many rows
must be affected or returned. Rows that are returned come back as its result.

It makes three tables, concordat_…, in that database: the proof of what was
committed. The user must be allowed to make and write them, have PROCESS, and be the
same for all endpoints of a participant. On MariaDB a prepared branch keeps its
connection until it is settled, so connect to the server itself, not through a pooler.
Tables of engines without transactions, as MyISAM, cannot be part of a branch.

A database restored from a backup must be given a --new-incarnation once, and votes
again when an operator has accepted it with 'concordat participants add --accept-incarnation'.`,
		Example: `  CONCORDAT_DSN='bank:secret@tcp(127.0.0.1:3306)/bank' concordat participant mysql --name payments \
      --listen 127.0.0.1:7303 --nodes 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --register
  concordat participant mysql --print-schema`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := newSQLFlags(a, cmd, "USER:PASSWORD@tcp(HOST:PORT)/DATABASE")
	cmd.RunE = f.runs(a, mysql.Schema, runMySQL)
	return cmd
}

func runMySQL(ctx context.Context, f *sqlFlags, log hclog.Logger) (err error) {
	manager, err := openSQL(ctx, log, func(ctx context.Context) (*mysql.Manager, error) {
		return mysql.Open(ctx, mysql.Options{
			Name: f.name, DSN: f.dsn, NewIncarnation: f.newIncarnation, MaxBranches: f.maxBranches, Logger: log.Named("mysql"),
		})
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manager.Close()) }()
	return f.serve(ctx, manager, log)
}
