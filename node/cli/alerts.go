package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newAlertsCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "alerts",
		Short:   "What an operator must know of",
		Example: "  concordat alerts list",
	})
	cmd.AddCommand(newAlertsListCommand(a))
	return cmd
}

func newAlertsListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the alerts of the cluster, its nodes and its participants",
		Long: `List what is wrong now: what the leader has judged, what each node says of itself
and what each participant says of itself. They are asked at once and have a second;
who did not answer is named. TOLD is whether the webhook has taken it (--alert-webhook
of servers and participants). An alert that is over is listed until that is told, too.`,
		Example: `  concordat alerts list
  concordat alerts list -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			resp, err := c.ListAlerts(ctx)
			if err != nil {
				return err
			}
			value, err := toObject(resp)
			if err != nil {
				return err
			}
			items, _ := value["alerts"].([]any)
			if out.format == formatLines { // a line is an alert: who was silent stands elsewhere
				fmt.Fprint(a.stderr, silentLine(resp))
			}
			return printList(out, value, items, func(w io.Writer) error { return alertsTable(w, resp) })
		})
	}
	return cmd
}

func alertsTable(w io.Writer, resp *pb.ListAlertsResponse) error {
	if len(resp.GetAlerts()) == 0 {
		fmt.Fprintln(w, "No alerts.")
	} else {
		g := newGrid(w, "SEVERITY", "ALERT", "SOURCE", "PARTICIPANT", "SINCE", "TOLD", "COUNT", "IN VAIN", "SUMMARY")
		for _, al := range resp.GetAlerts() {
			summary := al.GetSummary()
			if al.GetEndsAt() != nil {
				summary = "over since " + al.GetEndsAt().AsTime().Format(time.RFC3339) + ": " + summary
			}
			g.row(strings.ToLower(al.GetSeverity().String()), al.GetName(), al.GetSource(), dash(al.GetParticipant()),
				al.GetStartsAt().AsTime().Format(time.RFC3339), yesNo(al.GetNotified()), count(al.GetCount()), count(al.GetRetries()), summary)
		}
		if err := g.flush(); err != nil {
			return err
		}
	}
	for _, al := range resp.GetAlerts() {
		fmt.Fprintf(w, "\n%s, %s: %s\n", printable(al.GetSource()), printable(al.GetName()), printable(al.GetAction()))
		if ids := al.GetTransactions(); len(ids) > 0 {
			more := ""
			if n := al.GetCount() - min(al.GetCount(), uint64(len(ids))); n > 0 {
				more = fmt.Sprintf(" and %d more", n)
			}
			fmt.Fprintf(w, "  transactions, oldest first: %s%s\n", printable(strings.Join(ids, ", ")), more)
		}
	}
	fmt.Fprint(w, silentLine(resp))
	return nil
}

// silentLine names who did not answer; empty if all did.
func silentLine(resp *pb.ListAlertsResponse) string {
	if len(resp.GetSilent()) == 0 {
		return ""
	}
	return "no answer from " + printable(strings.Join(resp.GetSilent(), ", ")) + ": what they have to say is not listed\n"
}
