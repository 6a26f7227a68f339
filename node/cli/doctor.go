package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// found is a finding with whom it is about: "node/ID" or "participant/NAME".
type found struct {
	about   string
	finding *pb.Finding
}

func newDoctorCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check nodes, participants and their databases, and say what to mend",
		Long: `Look at every node, every participant and the database under it, and say what is
wrong and what to do about it. Nothing is changed.

FINE is as it should be (shown with --all), ADVICE works and may not for long or
under load, BROKEN does not work, or not safely. Exit status: 0 nothing is BROKEN,
1 something is, 4 no node answers.`,
		Example: `  concordat doctor
  concordat doctor --all -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "show what is fine, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			nodes := c.StatusAll(ctx)
			if err := noAnswer(nodes); err != nil {
				return err
			}
			list := append(examineNodes(nodes), examineParticipants(ctx, c)...)
			if err := out.findings(list, *all); err != nil {
				return err
			}
			for _, f := range list {
				if f.finding.GetLevel() == pb.Finding_BROKEN {
					return &statusError{exitError}
				}
			}
			return nil
		})
	}
	return cmd
}

func fine(about, subject, message string) found {
	return found{about, &pb.Finding{Level: pb.Finding_FINE, Subject: subject, Message: message}}
}

func advise(about, subject, message, mend string) found {
	return found{about, &pb.Finding{Level: pb.Finding_ADVICE, Subject: subject, Message: message, Mend: mend}}
}

func broken(about, subject, message, mend string) found {
	return found{about, &pb.Finding{Level: pb.Finding_BROKEN, Subject: subject, Message: message, Mend: mend}}
}

// maxLag is how many entries a node may be behind before that is worth a word.
const maxLag = 1000

// examineNodes looks at the nodes beside each other.
func examineNodes(all []rpc.NodeStatus) (list []found) {
	sum := summaryOf(all)
	if sum.leader == "" {
		list = append(list, broken("cluster", "leader", "no node leads and is ready", "see that a majority of the nodes runs and reaches each other: concordat cluster status"))
	} else {
		list = append(list, fine("cluster", "leader", sum.leader+" leads"))
	}
	for _, n := range all {
		if n.Err != nil {
			list = append(list, broken("node at "+n.Address, "reachable", n.Err.Error(), "start it or mend its network"))
			continue
		}
		st := n.Status
		about := "node/" + st.GetNode()
		list = append(list, fine(about, "reachable", "answers at "+n.Address))
		if st.GetClusterId() != sum.best.GetClusterId() && st.GetClusterId() != "" {
			list = append(list, broken(about, "cluster", "belongs to cluster "+st.GetClusterId()+", the others to "+sum.best.GetClusterId(), "it was started on the data of another cluster: give it its own --data-dir"))
		}
		if lag := sum.furthest - min(sum.furthest, st.GetAppliedIndex()); lag > maxLag {
			list = append(list, advise(about, "lag", fmt.Sprintf("is %d entries behind the furthest node", lag), "see to its disk and its network; if it does not catch up, look at its log"))
		}
		if st.GetVersion() != sum.best.GetVersion() {
			list = append(list, advise(about, "version", "runs "+st.GetVersion()+", "+sum.best.GetNode()+" runs "+sum.best.GetVersion(), "finish the upgrade"))
		}
		for _, alert := range st.GetAlerts() {
			list = append(list, advise(about, "alert", alert, "concordat alerts list"))
		}
	}
	return list
}

// examineParticipants looks at the registry, and asks each participant about itself.
func examineParticipants(ctx context.Context, c *rpc.Client) []found {
	registry, err := c.ListParticipants(ctx)
	if err != nil {
		return []found{broken("cluster", "registry", err.Error(), "the registry is the leader's: see to that first")}
	}
	registry = slices.DeleteFunc(registry, func(p *pb.ParticipantInfo) bool { return p.GetState() == stateRemoved })
	names := make([]string, len(registry))
	for i, p := range registry {
		names[i] = p.GetName()
	}
	each := make([][]found, len(registry))
	eachOf(names, func(i int, _ string) { each[i] = examineParticipant(ctx, c, registry[i]) })
	return slices.Concat(each...)
}

func examineParticipant(ctx context.Context, c *rpc.Client, p *pb.ParticipantInfo) (list []found) {
	about := "participant/" + p.GetName()
	ctx, cancel := context.WithTimeout(ctx, askEach)
	defer cancel()
	if p.GetPendingIncarnation() != "" {
		list = append(list, broken(about, "incarnation", "came back with other data ("+p.GetPendingIncarnation()+") and takes no part",
			"check that nothing is missing in them, then: concordat participants add "+p.GetName()+" --accept-incarnation"))
	}
	if p.GetUndelivered() > 0 {
		list = append(list, advise(about, "undelivered", fmt.Sprintf("%d decided branches wait for it", p.GetUndelivered()), "concordat tx list --participant "+p.GetName()+" --unfinished"))
	}
	d, err := c.DescribeParticipant(ctx, p.GetName())
	if err != nil {
		return append(list, broken(about, "reachable", err.Error(), "start it, or say where it is: concordat participants add "+p.GetName()+" --endpoint HOST:PORT"))
	}
	list = append(list, fine(about, "reachable", "answers at "+strings.Join(p.GetEndpoints(), ", ")))
	if d.GetInstance() != d.GetBoundInstance() {
		list = append(list, broken(about, "instance", "its database is instance "+d.GetInstance()+", its data are bound to "+d.GetBoundInstance(),
			"see that it has everything that was promised, then: concordat participants accept-instance "+p.GetName()))
	}
	if age := time.Duration(d.GetOldestPreparedSeconds() * float64(time.Second)); age > time.Minute {
		list = append(list, advise(about, "in doubt", fmt.Sprintf("%d branches are prepared, the oldest for %s", d.GetPrepared(), durationText(age)), "concordat tx list --participant "+p.GetName()+" --unfinished --order oldest"))
	}
	findings, err := c.Diagnose(ctx, p.GetName())
	switch {
	case rpc.ReasonOf(err) == rpc.ReasonUnimplemented: // no database
	case err != nil:
		list = append(list, broken(about, "database", err.Error(), "see to the database; the participant's log says more"))
	}
	for _, f := range findings {
		list = append(list, found{about, f})
	}
	return list
}

// findings prints what was found, the worst first.
func (o *output) findings(list []found, all bool) error {
	var items []object
	var shown []found
	for _, level := range []pb.Finding_Level{pb.Finding_BROKEN, pb.Finding_ADVICE, pb.Finding_FINE} {
		for _, f := range list {
			if f.finding.GetLevel() == level && (all || level != pb.Finding_FINE) {
				shown = append(shown, f)
				items = append(items, object{
					"about": f.about, "level": level.String(), "subject": f.finding.GetSubject(),
					"message": f.finding.GetMessage(), "mend": f.finding.GetMend(),
				})
			}
		}
	}
	return printList(o, object{"findings": items, "looked_at": len(list)}, items, func(w io.Writer) error {
		for _, f := range shown {
			fmt.Fprintf(w, "%-6s  %s, %s: %s\n", f.finding.GetLevel(), printable(f.about), printable(f.finding.GetSubject()), printable(f.finding.GetMessage()))
			if f.finding.GetMend() != "" {
				fmt.Fprintf(w, "        %s\n", printable(f.finding.GetMend()))
			}
		}
		if len(shown) == 0 {
			fmt.Fprintf(w, "Nothing to mend; %d things were looked at.\n", len(list))
		}
		return nil
	})
}
