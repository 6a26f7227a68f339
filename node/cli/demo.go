package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/demo"
	"github.com/concordat-tx/concordat/node/local/database"
)

type demoFlags struct {
	cfg  demo.Config
	kill []string
	// plain: lines, also on a terminal.
	plain bool
	// given reports whether a flag was set on the command line.
	given func(flag string) bool
}

func newDemoCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Book flights on three nodes, kill the leader, check every booking",
		Long: `Run three nodes and three participants (seats, payments, profiles) as child
processes on this machine, book flights, kill -9 the leader in the middle, show
the failover as a timeline, and check that no booking is half done.

On a terminal a live view shows throughput, latency, nodes, participants, what is
in doubt, and the invariant, checked every second; its keys kill, pause and cut
off processes, and q ends the load with the final audit (it ends by itself after
--duration, or after 10 minutes). What was killed comes back after 5 s by itself.

Without a terminal, or with --plain, lines are printed on stdout, or with -o json
on stderr. Without --dir, data and logs are in a temporary directory, which is
removed at the end unless something is wrong. The children end with this process,
however it ends, unless --keep lets them go on when the audit is done; what it
takes to stop them is then printed.

With --databases seats are in PostgreSQL and payments in MariaDB: private servers
of the system's programs, on free ports of the loopback, run by this user or, if
that is root, by postgres and mysql. Each is killed once as well, the audit reads
both by way of SQL, and no branch may be left prepared in either. It takes Linux.

Exit status 0 if everything holds, 1 if anything is wrong, 2 if the programs of a
database are missing.`,
		Example: `  concordat demo
  concordat demo --kill leader,participant --kills 4 --duration 60s --rate 200
  concordat demo --clients 64 --duration 60s --kills 5 -o json
  concordat demo --plain --keep --dir data/demo
  concordat demo --databases --duration 30s`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := &demoFlags{given: func(flag string) bool { return cmd.Flags().Changed(flag) }}
	out := a.outputFlag(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.cfg.Clients, "clients", 16, "clients that book at the same moment")
	flags.IntVar(&f.cfg.Rate, "rate", 0, "bookings a second, answered or not, at most 10000 (0: as fast as the clients are answered)")
	flags.DurationVar(&f.cfg.Duration, "duration", 12*time.Second, "how long they book, 2s to 1h (default on a terminal: until q)")
	flags.StringSliceVar(&f.kill, "kill", []string{string(demo.KillLeader)},
		"what is killed meanwhile, in turn: leader, follower, participant, with --databases database (may be repeated), or none")
	flags.IntVar(&f.cfg.Kills, "kills", 1, "how often something is killed (default: once each)")
	flags.StringVar(&f.cfg.Dir, "dir", "", "a new directory for data and logs, which stays (default: a temporary one)")
	flags.BoolVar(&f.cfg.Keep, "keep", false, "leave the cluster running at the end, and say how to play with it and stop it")
	flags.BoolVar(&f.cfg.Databases, "databases", false, "seats in PostgreSQL and payments in MariaDB; each is killed as well, and --duration is 20s, unless something else is said")
	flags.StringVar(&f.cfg.PostgresBin, "postgres-bin", "", "the directory of postgres and initdb (default: the newest in /usr/lib/postgresql, or $PATH)")
	flags.StringVar(&f.cfg.MariaDBBin, "mariadb-bin", "", "the directory of mariadbd and mariadb-install-db (default: $PATH, or /usr/sbin)")
	flags.BoolVar(&f.plain, "plain", false, "print lines, also on a terminal")
	flags.BoolVar(&f.cfg.Falsify, "falsify", false, "a test of the audit: remove one booking from one participant after the load; must exit with 1")
	_ = flags.MarkHidden("falsify") // fails only for a flag that is not there
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), out) }
	return cmd
}

// complete fills in what follows from the flags.
func (f *demoFlags) complete(out *output) {
	if f.cfg.Databases && !f.given("kill") {
		f.kill = append(f.kill, string(demo.KillDatabase), string(demo.KillDatabase))
	}
	if f.cfg.Databases && !f.given("duration") {
		f.cfg.Duration = 20 * time.Second
	}
	for _, target := range f.kill {
		f.cfg.Kill = append(f.cfg.Kill, demo.Target(target))
	}
	switch {
	case f.given("kills"):
	case len(f.kill) == 1 && f.kill[0] == string(demo.KillNobody):
		f.cfg.Kills = 0
	default:
		f.cfg.Kills = len(f.kill)
	}
	in, screen := terminalOf(out)
	if f.plain || screen == nil {
		return
	}
	f.cfg.Terminal = &demo.Terminal{In: in, Out: screen, UntilKey: !f.given("duration")}
	if f.cfg.Terminal.UntilKey {
		f.cfg.Duration = demo.LongestView
	}
}

// terminalOf is the terminal that the demo is watched and steered on; nil if
// stdin or stdout is none, or it cannot be drawn on, or stdout is for JSON.
func terminalOf(out *output) (in, screen *os.File) {
	in, ok := out.app.stdin.(*os.File)
	screen, also := out.app.stdout.(*os.File)
	if !ok || !also || out.format != "table" || out.app.env("TERM") == "dumb" ||
		!term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(screen.Fd())) {
		return nil, nil
	}
	return in, screen
}

func (f *demoFlags) run(ctx context.Context, out *output) (err error) {
	if f.cfg.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("demo: which program is this? %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := demo.Lifetime(ctx)
	defer stop()
	w := &watched{w: out.app.stdout, failed: cancel}
	if out.format != "table" {
		w.w = out.app.stderr
	}
	f.cfg.Screen, f.cfg.Colour = w, colourful(w.w, out.app.env)
	f.complete(out)
	// A reader that went away is an error of a write, not the end of the process.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	d, err := demo.Start(ctx, f.cfg)
	if _, bad := errors.AsType[*fsm.FieldError](err); bad {
		return usageErrorf("demo: %w", err)
	}
	if _, missing := errors.AsType[*database.Missing](err); missing {
		return usageErrorf("demo: %w", err)
	}
	if err != nil {
		return demoError(ctx, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return f.play(ctx, d, out)
}

func (f *demoFlags) play(ctx context.Context, d *demo.Demo, out *output) error {
	r, err := d.Run(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, demo.ErrInterrupted) {
			d.Spare()
		}
		return demoError(ctx, err)
	}
	d.Show(r)
	if !r.OK && !f.cfg.Falsify {
		d.Spare()
	}
	if out.format != "table" {
		if err := out.print(r, nil); err != nil {
			return err
		}
	}
	if f.cfg.Keep {
		if err := d.Keep(ctx); err != nil {
			return demoError(ctx, err)
		}
	}
	if !r.OK {
		return fmt.Errorf("demo: %d of what must hold does not: %s", len(r.Problems), r.Problems[0])
	}
	return nil
}

// demoError says why a demo ended early. It does not wrap err: the status and
// the advice that go with an unknown outcome are for commands that can be repeated.
func demoError(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("demo: %v", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("demo: ended early: %w", cause)
	}
	return errors.New("demo: interrupted")
}

// watched ends the demo when nobody can read it any more.
type watched struct {
	w      io.Writer
	failed context.CancelCauseFunc
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.failed(fmt.Errorf("nobody reads this: %w", err))
	}
	return n, err
}

// colourful reports whether w is a terminal that wants colours (see no-color.org).
func colourful(w io.Writer, env func(string) string) bool {
	file, ok := w.(*os.File)
	if !ok || env("NO_COLOR") != "" || env("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
