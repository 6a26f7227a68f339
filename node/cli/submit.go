package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/jsonform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxFileBytes bounds a request read from a file: payloads and ample room.
const maxFileBytes = rpc.MaxRequestBytes

// submitFlags are what tx submit is told.
type submitFlags struct {
	branches []string
	file     string
	id       string
	timeout  time.Duration
	wait     string
	since    uint64
	noRetry  bool
}

func newTxSubmitCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit --branch NAME=JSON … | -f FILE",
		Short: "Run a transaction over some participants",
		Long: `Run a transaction: its branches commit everywhere or nowhere. The answer comes at
the decision, or with --wait completed when every branch has applied it; if the
deadline ends that wait, the status is 0 and the branches still to apply are named.

A transaction that aborted only because another one was in its way (CONFLICT) is
tried again under new ids (ID.r1-… and so on), unless --no-retry is given.

Exit status 0: committed; 3: aborted; 4: nothing is known of the outcome (the id
and how to settle it are printed), or the cluster is unavailable and nothing happened.

FILE has the form of the HTTP interface:
  {"id": "booking-42", "wait": "DECIDED", "timeout": "5s",
   "branches": [{"participant": "seats", "payload": {"ops": […]}}]}`,
		Example: `  concordat tx submit --branch 'seats={"ops":[{"op":"add","key":"flight/LH1","delta":-1,"min":0}]}' \
      --branch 'payments={"ops":[{"op":"add","key":"acct/ann","delta":-120,"min":0}]}'
  concordat tx submit -f booking.json --id booking-42 --wait completed
  concordat tx submit -f - -o json < booking.json`,
		Args: usageArgs(cobra.NoArgs),
	}
	var f submitFlags
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.branches, "branch", nil, "a participant and its payload, NAME=JSON (may be repeated)")
	flags.StringVarP(&f.file, "file", "f", "", "read the transaction from a file, or - for standard input")
	flags.StringVar(&f.id, "id", "", "the transaction's id (default: a random one)")
	flags.DurationVar(&f.timeout, "timeout", 0, "the prepare budget, 50ms to 60s (default 5s)")
	flags.StringVar(&f.wait, "wait", "decided", "answer when it is decided, or when it is completed")
	flags.Uint64Var(&f.since, "since", 0, "the log index that an earlier, unanswered submit of this id named")
	completeFlag(cmd, "branch", a.branchPrefixes())
	completeFlag(cmd, "wait", words("decided", "completed"))
	flags.BoolVar(&f.noRetry, "no-retry", false, "do not try again after a CONFLICT")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := a.submitRequest(cmd, f)
		if err != nil {
			return err
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			t, err := c.Submit(ctx, req, rpc.WithConflictRetry(!f.noRetry))
			if err != nil {
				return err
			}
			return a.submitted(out, req, t)
		})
	}
	return cmd
}

// submitted prints the answer and turns it into an exit status.
func (a *app) submitted(out *output, req *pb.SubmitRequest, t *pb.TransactionResponse) error {
	if err := out.transaction(t); err != nil {
		return err
	}
	switch {
	case t.GetOutcome() == pb.Outcome_ABORT:
		fmt.Fprintf(a.stderr, "concordat: transaction %s aborted: %s\n", t.GetId(), printable(reasonText(t.GetReason())))
		return &statusError{exitAborted}
	case t.GetHeuristic() != pb.Heuristic_HEURISTIC_NONE: // COMMIT is what was decided, and not what came to be
		fmt.Fprintf(a.stderr, "concordat: transaction %s was decided COMMIT and did not end so everywhere (%s): see 'concordat tx explain %s'\n",
			t.GetId(), heuristicName(t.GetHeuristic()), t.GetId())
		return &statusError{exitError}
	case req.GetWait() == pb.Wait_COMPLETED && len(t.GetPending()) > 0:
		fmt.Fprintf(a.stderr, "Transaction %s is committed; still to apply it: %s. They will: nothing needs to be done.\n",
			t.GetId(), printable(strings.Join(t.GetPending(), ", ")))
	}
	return nil
}

// submitRequest is the request of the flags: those of the file, and over them
// what was said on the command line.
func (a *app) submitRequest(cmd *cobra.Command, f submitFlags) (*pb.SubmitRequest, error) {
	req := &pb.SubmitRequest{}
	switch {
	case f.file != "" && len(f.branches) > 0:
		return nil, usageErrorf("--branch and --file: say one of them, not both")
	case f.file != "":
		text, err := a.readFile(f.file)
		if err != nil {
			return nil, err
		}
		if req, err = jsonform.ParseSubmit(text); err != nil {
			return nil, usageErrorf("--file %s: %w", f.file, err)
		}
	case len(f.branches) == 0:
		return nil, usageErrorf("--branch or --file: say what to submit")
	}
	for _, text := range f.branches {
		b, err := parseBranch(text)
		if err != nil {
			return nil, err
		}
		req.Branches = append(req.Branches, b)
	}
	changed := cmd.Flags().Changed
	if changed("id") {
		req.Id = f.id
	}
	if changed("timeout") {
		req.Timeout = durationpb.New(f.timeout)
	}
	if changed("since") {
		req.Since = proto.Uint64(f.since)
	}
	if changed("wait") {
		wait, ok := pb.Wait_value[strings.ToUpper(f.wait)]
		if !ok {
			return nil, usageErrorf("--wait: decided or completed, got %q", f.wait)
		}
		req.Wait = pb.Wait(wait)
	}
	return req, nil
}

// parseBranch reads NAME=JSON. The bytes of the JSON are the payload, as they stand.
func parseBranch(text string) (*pb.Branch, error) {
	name, payload, found := strings.Cut(text, "=")
	if !found || name == "" {
		return nil, usageErrorf("--branch %s: must be NAME=JSON", shorten(text))
	}
	var any json.RawMessage
	if err := json.Unmarshal([]byte(payload), &any); err != nil {
		return nil, usageErrorf("--branch %s: the payload is not JSON: %w", shorten(text), err)
	}
	return &pb.Branch{Participant: name, Payload: []byte(payload)}, nil
}

// shorten keeps a message readable.
func shorten(text string) string {
	if len(text) > 60 {
		return text[:60] + "…"
	}
	return text
}

func (a *app) readFile(name string) ([]byte, error) {
	var r io.Reader = a.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usageErrorf("--file: %w", err)
		}
		defer func() { _ = file.Close() }() // it was only read
		r = file
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--file %s: read: %w", name, err)
	}
	if len(text) > maxFileBytes {
		return nil, usageErrorf("--file %s: at most %d bytes", name, maxFileBytes)
	}
	return text, nil
}
