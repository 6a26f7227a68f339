package cli

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func newParticipantsCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "participants",
		Short: "The registry of participants",
		Example: `  concordat participants list
  concordat participants add seats --endpoint 127.0.0.1:7301`,
	})
	cmd.AddCommand(newParticipantsListCommand(a), newParticipantsAddCommand(a), newParticipantsRemoveCommand(a),
		newParticipantsCensusCommand(a), newParticipantsAcceptInstanceCommand(a), newParticipantsConformCommand(a))
	return cmd
}

func newParticipantsListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the participants and whether the leader reaches them",
		Long: `List the registry, as the leader has it. UNFINISHED counts the transactions with a
branch there that are not finished; UNDELIVERED those of them that are decided,
not applied there, and whose last call failed.`,
		Example: `  concordat participants list
  concordat participants list -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			all, err := c.ListParticipants(ctx)
			if err != nil {
				return err
			}
			value, err := toObject(&pb.ListParticipantsResponse{Participants: all})
			if err != nil {
				return err
			}
			items, _ := value["participants"].([]any)
			return printList(out, value, items, func(w io.Writer) error { return participantsTable(w, all...) })
		})
	}
	return cmd
}

func newParticipantsAddCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME --endpoint host:port",
		Short: "Register a participant, or change its endpoints",
		Long: `Register a participant, or change its endpoints. Every endpoint is asked who it is
first, so it must be running; all endpoints of one name serve the same data. They
take the place of those that were registered; with --join they are added to them.

A participant that comes back with other data than the registered ones (restored,
wiped) votes only after an operator has accepted them with --accept-incarnation;
without --endpoint its registered endpoints stay.`,
		Example: `  concordat participants add seats --endpoint 127.0.0.1:7301
  concordat participants add payments --endpoint 127.0.0.1:7312 --join
  concordat participants add seats --accept-incarnation`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.participantNames()),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	endpoints := cmd.Flags().StringSlice("endpoint", nil, "host:port where it serves (may be repeated)")
	accept := cmd.Flags().Bool("accept-incarnation", false, "accept data of another incarnation than the registered one")
	join := cmd.Flags().Bool("join", false, "add the endpoints to the registered ones, not in their place")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(*endpoints) == 0 && !*accept {
			return usageErrorf("--endpoint: say where participant %s serves, host:port", args[0])
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			req := &pb.AddParticipantRequest{Name: args[0], Endpoints: *endpoints, AcceptIncarnation: *accept, Join: *join}
			if len(req.GetEndpoints()) == 0 {
				p, err := registered(ctx, c, args[0])
				if err != nil {
					return err
				}
				req.Endpoints = p.GetEndpoints()
			}
			p, err := c.AddParticipant(ctx, req)
			if err != nil {
				return err
			}
			return out.participant(p)
		})
	}
	return cmd
}

// registered looks one participant up.
func registered(ctx context.Context, c *rpc.Client, name string) (*pb.ParticipantInfo, error) {
	all, err := c.ListParticipants(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.GetName() == name {
			return p, nil
		}
	}
	return nil, rpc.Errorf(rpc.ReasonParticipantUnknown, "participant %q is not registered; add it with --endpoint host:port", name)
}

// operatorFlag names the person whose word is logged.
func (a *app) operatorFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("operator", a.env("USER"), "who decides this; it is logged")
}

func (o *output) participant(p *pb.ParticipantInfo) error {
	value, err := toObject(p)
	if err != nil {
		return err
	}
	return o.print(value, func(w io.Writer) error { return participantsTable(w, p) })
}

func participantsTable(w io.Writer, list ...*pb.ParticipantInfo) error {
	g := newGrid(w, "NAME", "KIND", "STATE", "REACHABLE", "UNFINISHED", "UNDELIVERED", "ENDPOINTS", "INCARNATION")
	for _, p := range list {
		incarnation := p.GetIncarnation()
		if p.GetPendingIncarnation() != "" {
			incarnation += " (came back with " + p.GetPendingIncarnation() + ")"
		}
		reachable := yesNo(p.GetReachable())
		if p.GetState() == stateRemoved {
			reachable = "-"
		}
		g.row(p.GetName(), dash(p.GetKind()), p.GetState(), reachable,
			strconv.Itoa(int(p.GetUnfinished())), strconv.Itoa(int(p.GetUndelivered())), dash(strings.Join(p.GetEndpoints(), ",")), dash(incarnation))
	}
	return g.flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
