package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// States of a participant, as the registry names them.
const (
	stateDraining = "draining"
	stateRemoved  = "removed"
)

const (
	// drainLook is how often a drain is looked at.
	drainLook = 300 * time.Millisecond
	// drainShown is how many of the transactions in the way are named.
	drainShown = 5
)

// removeFlags are what participants remove is told.
type removeFlags struct {
	name   string
	giveUp bool
	yes    bool
	wait   time.Duration
}

func newParticipantsRemoveCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Drain and remove a participant",
		Long: `Close a participant to new transactions. It is removed when its last branch is
settled; until then its state is draining, and what is left is named. --wait stays
until it is removed and shows what is left meanwhile; if that takes longer, the
exit status is 4 and the drain goes on.

--give-up settles by decree the decided branches that it has not acknowledged:
its data may then disagree with the others', and each transaction needs an
operator. So the name must be typed once more, or --yes given where there is no
terminal, and --operator says who decides it.`,
		Example: `  concordat participants remove seats
  concordat participants remove seats --wait 1m
  concordat participants remove seats --give-up --operator ann --yes`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.participantNames()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	var f removeFlags
	cmd.Flags().BoolVar(&f.giveUp, "give-up", false, "no longer wait for its unacknowledged branches")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "with --give-up: do not ask")
	cmd.Flags().DurationVar(&f.wait, "wait", 0, "how long to wait until it is removed (default: do not wait)")
	operator := a.operatorFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.name = args[0]
		if err := f.check(a, *operator); err != nil {
			return err
		}
		var p *pb.ParticipantInfo
		err := client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) (err error) {
			p, err = c.RemoveParticipant(ctx, &pb.RemoveParticipantRequest{Name: f.name, GiveUp: f.giveUp, Operator: *operator})
			return err
		})
		if err != nil {
			return err
		}
		return f.drain(cmd.Context(), client, out, p)
	}
	return cmd
}

// check refuses what makes no sense and asks where an answer is needed.
func (f *removeFlags) check(a *app, operator string) error {
	switch {
	case f.wait < 0:
		return usageErrorf("--wait: must be at least 0, got %s", f.wait)
	case f.yes && !f.giveUp:
		return usageErrorf("--yes: nothing is asked without --give-up")
	case f.giveUp && operator == "":
		return usageErrorf("--operator: say who gives up the branches of %s; it is logged", f.name)
	case f.giveUp && !f.yes:
		return f.confirm(a)
	}
	return nil
}

// confirm asks for the name to be typed.
func (f *removeFlags) confirm(a *app) error {
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return usageErrorf("--yes: confirm that the branches of %s are given up; its data may then disagree with the others'", f.name)
	}
	fmt.Fprintf(a.stderr, "Branches of %s that are decided and not acknowledged will be given up: its data may then\n"+
		"disagree with the others'. Type the name of the participant to go on: ", f.name)
	typed, err := bufio.NewReader(file).ReadString('\n')
	if strings.TrimSpace(typed) == f.name {
		return nil
	}
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	return fmt.Errorf("not confirmed: %q is not %q; nothing was changed", printable(strings.TrimSpace(typed)), f.name)
}

// drain shows what is left, and waits for it if that was asked for.
func (f *removeFlags) drain(ctx context.Context, client *clientFlags, out *output, p *pb.ParticipantInfo) error {
	deadline := time.Now().Add(f.wait)
	said := ""
	for p.GetState() == stateDraining {
		var left []*pb.TransactionResponse
		err := client.with(ctx, func(ctx context.Context, c *rpc.Client) (err error) {
			left, err = unfinishedAt(ctx, c, f.name)
			return err
		})
		if err != nil {
			return err
		}
		if text := leftText(p, left); text != said {
			said = text
			fmt.Fprint(out.app.stderr, text)
		}
		if !time.Now().Before(deadline) {
			break
		}
		select {
		case <-time.After(drainLook):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = client.with(ctx, func(ctx context.Context, c *rpc.Client) (err error) {
			p, err = registered(ctx, c, f.name)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := out.participant(p); err != nil {
		return err
	}
	if p.GetState() != stateDraining {
		return nil
	}
	fmt.Fprintf(out.app.stderr, "%s takes no new transactions and is removed when these are settled. 'concordat tx explain ID' says what each\n"+
		"waits for; 'concordat tx retry --participant %s' calls it now; if it is gone for good, --give-up settles them by decree.\n", f.name, f.name)
	if f.wait > 0 {
		return rpc.Errorf(rpc.ReasonDeadline, "participant %s is not drained within %s", f.name, f.wait)
	}
	return nil
}

// unfinishedAt lists the first transactions that a participant has open.
func unfinishedAt(ctx context.Context, c *rpc.Client, name string) ([]*pb.TransactionResponse, error) {
	resp, err := c.List(ctx, &pb.ListRequest{Participant: name, Unfinished: true, Order: pb.Order_OLDEST_FIRST, Limit: drainShown})
	return resp.GetTransactions(), err
}

// leftText is what a drain waits for.
func leftText(p *pb.ParticipantInfo, left []*pb.TransactionResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is draining: %d unfinished", printable(p.GetName()), p.GetUnfinished())
	if !p.GetReachable() {
		b.WriteString(", and it does not answer")
	}
	b.WriteString("\n")
	for _, t := range left {
		fmt.Fprintf(&b, "  %s %s\n", printable(t.GetId()), stateName(t.GetState()))
	}
	if more := int(p.GetUnfinished()) - len(left); more > 0 && len(left) > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	return b.String()
}
