package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/participant/conform"
	"github.com/concordat-tx/concordat/rpc"
)

// serveOff is the value of --serve that leaves the checks of inquiries out.
const serveOff = "off"

// conformFlags say what to hold against the suite, and how.
type conformFlags struct {
	endpoint    string
	name        string
	incarnation string
	serve       string
	payload     string
	only        string
	patience    time.Duration
	silence     time.Duration
}

func newParticipantsConformCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conform --endpoint host:port [-- COMMAND ARG…]",
		Short: "Hold a participant, in whatever language, against the rules",
		Long: `Hold a participant, in whatever language, against the rules of the protocol, as
docs/participants.md tells them. The command acts as the cluster: it sends Prepare,
Commit and Rollback to the endpoint and answers at --serve what a participant in
doubt asks. Tell the participant that address as its cluster's; a COMMAND finds it
in CONCORDAT_NODES.

With a COMMAND the participant is started from here, killed (kill -9) and started
again, always with the same arguments, to see whether what it answered was durable.
Without one these checks are skipped.

Give the suite a participant of its own, with new data: they are bound to a cluster
that exists nowhere else. Data of an earlier run may be used again.

The participant is expected to understand {"ops":[{"op":"add","key":K,"delta":1},
{"op":"get","key":K}]}. For one with another payload, name with --payload a file
that holds one, with {key} where a key goes; its effects are then not looked at.

Exit status: 0 every check that was made passed, 1 some failed, 2 bad usage, 4
nobody answers at the endpoint.`,
		Example: `  concordat participants conform --endpoint 127.0.0.1:7301 --serve 127.0.0.1:7001
  concordat participants conform --endpoint 127.0.0.1:7301 -- ./my-participant --listen 127.0.0.1:7301 --data /tmp/new`,
		Args: cobra.ArbitraryArgs,
	}
	var f conformFlags
	out := a.outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.endpoint, "endpoint", "", "where the participant serves, host:port")
	flags.StringVar(&f.name, "name", "", "its name (default: what it says)")
	flags.StringVar(&f.incarnation, "incarnation", "", "the incarnation that its data must have (default: what it says)")
	flags.StringVar(&f.serve, "serve", defaultNode, `where the participant asks its cluster, host:port (port 0: any), or "`+serveOff+`" to leave those checks out`)
	flags.StringVar(&f.payload, "payload", "", "file with a payload of the participant's own, with {key} in it")
	flags.StringVar(&f.only, "run", "", "make only the checks whose names fit this regular expression")
	flags.DurationVar(&f.patience, "patience", 10*time.Second, "how long to wait for what the participant does by itself")
	flags.DurationVar(&f.silence, "silence", 3*time.Second, "how long a branch in doubt gets no answer and must stay prepared")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); dash > 0 || dash < 0 && len(args) > 0 {
			return usageErrorf("%q: the participant's command goes after --", args[0])
		}
		return f.run(cmd.Context(), a, out, args)
	}
	return cmd
}

// run makes the checks and says how they came out.
func (f *conformFlags) run(ctx context.Context, a *app, out *output, command []string) (err error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	if f.serve != serveOff {
		if cfg.Listener, err = rpc.ListenAs("--serve", f.serve, false); err != nil {
			return &usageError{err}
		}
	}
	if len(command) > 0 {
		dir, err := os.MkdirTemp("", "concordat-conform-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		var env []string
		if cfg.Listener != nil {
			env = append(env, nodesVariable+"="+cfg.Listener.Addr().String())
		}
		cfg.Process = &subject{local.NewProcess("participant", command[0], dir, command[1:], env)}
	}
	if out.format == "table" {
		cfg.Progress = func(r conform.Result) { showResult(a.stdout, r) }
	}
	report, err := conform.Run(ctx, cfg)
	if err != nil {
		if rpc.ReasonOf(err) == rpc.ReasonInvalidArgument {
			return &usageError{err}
		}
		return err
	}
	if err := out.print(report, func(w io.Writer) error { return showTotal(w, report) }); err != nil {
		return err
	}
	if report.Failed > 0 {
		return &statusError{exitError}
	}
	return nil
}

func (f *conformFlags) config() (conform.Config, error) {
	cfg := conform.Config{
		Endpoint: f.endpoint, Name: f.name, Incarnation: f.incarnation, Patience: f.patience, Silence: f.silence,
	}
	if f.endpoint == "" {
		return cfg, usageErrorf("--endpoint: say where the participant serves, host:port")
	}
	if f.payload != "" {
		b, err := os.ReadFile(f.payload)
		if err != nil {
			return cfg, usageErrorf("--payload: %w", err)
		}
		cfg.Payload = strings.TrimSpace(string(b))
		if cfg.Payload == "" {
			return cfg, usageErrorf("--payload: %s is empty", f.payload)
		}
	}
	if f.only != "" {
		var err error
		if cfg.Only, err = regexp.Compile(f.only); err != nil {
			return cfg, usageErrorf("--run: %w", err)
		}
	}
	return cfg, nil
}

// showResult writes one check as it came out. What the participant said is in
// it, so nothing may steer the terminal.
func showResult(w io.Writer, r conform.Result) {
	fmt.Fprintf(w, "%-4s  %-3s  %s\n", r.Status, r.Rule, r.Check)
	for _, line := range []struct{ head, text string }{
		{"sent", r.Sent}, {"expected", r.Expected}, {"got", r.Got}, {"why", r.Why}, {"note", r.Note},
	} {
		if line.text != "" {
			fmt.Fprintf(w, "           %-9s %s\n", line.head+":", printable(line.text))
		}
	}
}

func showTotal(w io.Writer, r *conform.Report) error {
	_, err := fmt.Fprintf(w, "\nparticipant %s (%s) at %s: %d passed, %d failed, %d skipped\n",
		printable(r.Name), printable(r.Kind), r.Endpoint, r.Passed, r.Failed, r.Skipped)
	return err
}

// subject is the participant as a child process.
type subject struct{ *local.Process }

// Kill ends the child's whole process group, which is its own: the command may
// be a script that started the participant.
func (s *subject) Kill() error {
	if !s.Running() {
		return nil
	}
	if err := syscall.Kill(-s.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	_ = s.Wait() // that it was killed is no news
	return nil
}

// lastWords is how much of the child's output an error shows.
const lastWords = 2000

// Ended says how the child ended by itself.
func (s *subject) Ended() error {
	if s.Running() {
		return nil
	}
	err := s.Wait()
	if err == nil {
		err = errors.New("exit status 0")
	}
	said, readErr := os.ReadFile(s.Log)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%w; it said: %s", err, printable(string(said[max(0, len(said)-lastWords):])))
}
