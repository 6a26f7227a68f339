package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/postgres"
)

// dsnVariable is where the address of a database is looked for, so that its
// password need not be on the command line, which others on the machine can read.
const dsnVariable = "CONCORDAT_DSN"

// sqlFlags are what participants over an SQL database are told as well.
type sqlFlags struct {
	*participantFlags
	dsn         string
	maxBranches int
	printSchema bool
}

func newSQLFlags(a *app, cmd *cobra.Command, example string) *sqlFlags {
	f := &sqlFlags{participantFlags: newParticipantFlags(a, cmd)}
	flags := cmd.Flags()
	flags.StringVar(&f.dsn, "dsn", "", "the database, as "+example+" (default: $"+dsnVariable+", where no other user of the machine can read its password)")
	flags.IntVar(&f.maxBranches, "max-branches", 16, "how many branches are worked on at the same time, each on a connection")
	flags.StringVar(&f.dataDir, "alert-dir", "", "where it is remembered which alerts the webhook was told of (default: nowhere)")
	flags.BoolVar(&f.printSchema, "print-schema", false, "print the statements that make the tables, for roles that may not make them, and exit")
	return f
}

// runs is a command that prints the schema, or checks the flags and runs a participant.
func (f *sqlFlags) runs(a *app, schema []string, run func(context.Context, *sqlFlags, hclog.Logger) error) func(*cobra.Command, []string) error {
	serve := f.participantFlags.runs(a, func() error { return f.check(a) },
		func(ctx context.Context, _ *participantFlags, log hclog.Logger) error { return run(ctx, f, log) })
	return func(cmd *cobra.Command, args []string) error {
		if f.printSchema {
			_, err := fmt.Fprintln(a.stdout, strings.Join(schema, ";\n")+";")
			return err
		}
		return serve(cmd, args)
	}
}

// check also takes the address of the database from the environment.
func (f *sqlFlags) check(a *app) error {
	if err := f.participantFlags.check(); err != nil {
		return err
	}
	if f.maxBranches < 1 || f.maxBranches > 10_000 {
		return usageErrorf("--max-branches: 1 to 10000, got %d", f.maxBranches)
	}
	if f.dsn == "" {
		f.dsn = a.env(dsnVariable)
	}
	if f.dsn == "" {
		return usageErrorf("--dsn (or %s): say which database", dsnVariable)
	}
	if f.dataDir != "" {
		if err := os.MkdirAll(f.dataDir, 0o700); err != nil {
			return fmt.Errorf("--alert-dir: %w", err)
		}
	}
	return nil
}

// openPatience is between tries to open a database that is not there yet.
const openPatience = time.Second

// openSQL opens a database, and goes on trying while it cannot be reached: an
// agent that is started with its database need not be started after it.
func openSQL[S any](ctx context.Context, log hclog.Logger, open func(context.Context) (S, error)) (S, error) {
	said := ""
	for {
		store, err := open(ctx)
		if err == nil || !participant.IsTransient(err) || ctx.Err() != nil {
			return store, err
		}
		if text := err.Error(); text != said {
			said = text
			log.Warn("the database cannot be used yet; it is tried again", "error", err)
		}
		t := time.NewTimer(openPatience)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return store, err
		}
	}
}

func newParticipantPostgresCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "postgres --name NAME --dsn URL --listen host:port",
		Short: "Run a participant over a PostgreSQL database",
		Long: `Run a participant whose data are a PostgreSQL database (14 or newer, with
max_prepared_transactions above 0). A branch's payload are the statements that it
executes: {"statements": [{"sql", "args", "rows"}]}, where rows is how many rows
must be affected or returned. Rows that are returned come back as its result.

It makes a few tables in the schema concordat: the proof of what was committed. The
role must own them or be allowed to make them, and be the same for all endpoints of
a participant. Sessions are held over several statements, so connect to the server
itself, or through a pooler in session mode.

A database restored from a backup must be given a --new-incarnation once, and votes
again when an operator has accepted it with 'concordat participants add --accept-incarnation'.`,
		Example: `  CONCORDAT_DSN=postgres://bank:secret@127.0.0.1:5432/bank concordat participant postgres --name payments \
      --listen 127.0.0.1:7302 --nodes 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --register
  concordat participant postgres --print-schema`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := newSQLFlags(a, cmd, "postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	cmd.RunE = f.runs(a, postgres.Schema, runPostgres)
	return cmd
}

func runPostgres(ctx context.Context, f *sqlFlags, log hclog.Logger) error {
	store, err := openSQL(ctx, log, func(ctx context.Context) (*postgres.Store, error) {
		return postgres.Open(ctx, postgres.Options{
			Name: f.name, DSN: f.dsn, NewIncarnation: f.newIncarnation, MaxBranches: f.maxBranches, Logger: log.Named("postgres"),
		})
	})
	if err != nil {
		return err
	}
	defer store.Close()
	return f.serve(ctx, store, log)
}
