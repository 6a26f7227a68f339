package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// watchFlags are what tx watch is told.
type watchFlags struct {
	states        []string
	untilFinished bool
	timeout       time.Duration
}

func newTxWatchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Show what becomes of transactions, as it happens",
		Long: `Show every state that a transaction enters, as it happens, from now on. When the
node that tells dies, another one goes on without a gap or a double.

With an ID it begins with what is known of it and ends when it is finished, with
exit status 0 if it committed and 3 if it aborted. An id that nobody knows is
waited for, until --timeout: then the exit status is 4, as it is for a
transaction that did not finish in time.

Ctrl-C ends it with exit status 0 and prints on stderr the token to --resume from.
With -o json or jsonl every event is an object of its own.`,
		Example: `  concordat tx watch
  concordat tx watch booking-42 --timeout 30s
  concordat tx watch --state aborting,aborted --participant seats
  concordat tx watch --existing -o jsonl`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: first(a.unfinishedIDs()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	var f watchFlags
	req := &pb.WatchRequest{}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only these states: "+strings.Join(stateNames, ", "))
	flags.StringVar(&req.Participant, "participant", "", "only transactions with a branch of this participant")
	flags.BoolVar(&req.Existing, "existing", false, "begin with the transactions that are not finished (with an ID: always so)")
	flags.StringVar(&req.Resume, "resume", "", "go on behind the event with this token, at any node")
	flags.BoolVar(&f.untilFinished, "until-finished", false, "end when the transaction ID is finished (default with an ID)")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long to watch (default: no limit)")
	completeFlag(cmd, "state", words(stateNames...))
	completeFlag(cmd, "participant", a.participantNames())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w := &watch{out: out, untilFinished: f.untilFinished}
		if len(args) == 1 {
			req.Id = args[0]
			if !cmd.Flags().Changed("until-finished") {
				w.untilFinished = true
			}
		}
		if err := f.complete(w, req); err != nil {
			return err
		}
		if err := client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			_, err := c.Status(ctx, "") // is there anybody?
			return err
		}); err != nil {
			return err
		}
		c, err := a.dial(client.nodes)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // the stream has ended
		return w.run(cmd.Context(), c, req, f.timeout)
	}
	return cmd
}

// complete checks the flags and puts them into the request.
func (f *watchFlags) complete(w *watch, req *pb.WatchRequest) error {
	states, err := parseStates(f.states)
	switch {
	case err != nil:
		return err
	case w.untilFinished && req.GetId() == "":
		return usageErrorf("--until-finished: say which transaction, by its ID")
	case f.timeout < 0:
		return usageErrorf("--timeout: must be at least 0, got %s", f.timeout)
	}
	if w.untilFinished {
		// The end must be seen, whatever is shown.
		w.shown = states
		req.Existing = true
	} else {
		req.States = states
	}
	return nil
}

// watch is one tx watch.
type watch struct {
	out           *output
	untilFinished bool
	shown         []pb.State // empty: all
	headed        bool
	token         string
	last          *pb.TransactionResponse
}

// errFinished ends a stream whose transaction is finished.
var errFinished = errors.New("the transaction is finished")

// run watches until there is a reason to end, and says where to go on from.
func (w *watch) run(parent context.Context, c *rpc.Client, req *pb.WatchRequest, timeout time.Duration) error {
	ctx := parent
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(parent, timeout)
		defer cancel()
	}
	err := c.Watch(ctx, req, w.event)
	// A transaction that is waited for can be looked up again by its id, so a
	// stream that was away for too long begins anew.
	for w.untilFinished && req.GetResume() == "" && w.token != "" && rpc.ReasonOf(err) == rpc.ReasonExpired {
		w.token = ""
		err = c.Watch(ctx, req, w.event)
	}
	if finished(w.last) && w.untilFinished {
		return w.result()
	}
	if w.token != "" {
		fmt.Fprintf(w.out.app.stderr, "To go on from here: --resume %s\n", printable(w.token))
	}
	switch {
	case parent.Err() != nil:
		return nil // Ctrl-C is how a watch is ended
	case ctx.Err() != nil && !w.untilFinished:
		return nil
	case ctx.Err() != nil:
		return w.late(req.GetId(), timeout)
	}
	return err
}

// late is the error of a transaction that is not finished in time.
func (w *watch) late(id string, timeout time.Duration) error {
	if w.last == nil {
		return rpc.Errorf(rpc.ReasonDeadline, "nothing has been heard of transaction %s within %s; 'concordat tx explain %s' says what can be done", id, timeout, id)
	}
	return rpc.Errorf(rpc.ReasonDeadline, "transaction %s is %s and not finished within %s; 'concordat tx explain %s' says what it waits for",
		id, stateName(w.last.GetState()), timeout, id)
}

// result is the end of a transaction as an exit status.
func (w *watch) result() error {
	if w.last.GetOutcome() == pb.Outcome_COMMIT {
		return nil
	}
	fmt.Fprintf(w.out.app.stderr, "concordat: transaction %s aborted: %s\n", printable(w.last.GetId()), printable(reasonText(w.last.GetReason())))
	return &statusError{exitAborted}
}

func finished(t *pb.TransactionResponse) bool {
	return t.GetState() == pb.State_STATE_COMMITTED || t.GetState() == pb.State_STATE_ABORTED
}

// event takes one event of the stream.
func (w *watch) event(e *pb.WatchEvent) error {
	if e.GetToken() != "" { // events of what was there have none
		w.token = e.GetToken()
	}
	t := e.GetTransaction()
	if t == nil { // a bookmark
		return nil
	}
	w.last = t
	if len(w.shown) == 0 || slices.Contains(w.shown, t.GetState()) {
		if err := w.show(e); err != nil {
			return err
		}
	}
	if w.untilFinished && finished(t) {
		return errFinished
	}
	return nil
}

func (w *watch) show(e *pb.WatchEvent) error {
	if w.out.machine() {
		value, err := eventObject(e)
		if err != nil {
			return err
		}
		return w.out.encode(value)
	}
	if !w.headed {
		w.headed = true
		if err := w.line("TIME", "STATE", "ID", "PENDING", "REASON"); err != nil {
			return err
		}
	}
	t := e.GetTransaction()
	return w.line(entered(t).Local().Format("15:04:05.000"), stateName(t.GetState()), t.GetId(),
		dash(strings.Join(t.GetPending(), ",")), dash(reasonText(t.GetReason())))
}

// line writes a row at once, so its columns are as wide as most cells need.
func (w *watch) line(cells ...string) error {
	var b strings.Builder
	for i, width := range []int{12, 10, 32, 16, 0} {
		c := printable(cells[i])
		b.WriteString(c + strings.Repeat(" ", max(width-widths.StringWidth(c), 0)) + columnGap)
	}
	_, err := fmt.Fprintln(w.out.app.stdout, strings.TrimRight(b.String(), " "))
	return err
}

// eventObject is an event as JSON.
func eventObject(e *pb.WatchEvent) (object, error) {
	value := object{"kind": e.GetKind().String(), "token": e.GetToken()}
	t, err := transactionObject(e.GetTransaction())
	if err != nil {
		return nil, err
	}
	value["transaction"] = t
	return value, nil
}

// entered is when a transaction entered its state, as far as that is known.
func entered(t *pb.TransactionResponse) time.Time {
	switch {
	case finished(t) && t.GetFinishedAt() != nil:
		return t.GetFinishedAt().AsTime()
	case t.GetState() != pb.State_STATE_PREPARING && t.GetDecidedAt() != nil:
		return t.GetDecidedAt().AsTime()
	case t.GetBegunAt() != nil:
		return t.GetBegunAt().AsTime()
	}
	return time.Now()
}
