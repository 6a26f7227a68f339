package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxPage is the longest page of a list.
const maxPage = 1000

// stateNames are the words of --state.
var stateNames = []string{"preparing", "committing", "aborting", "committed", "aborted", "unfinished", "heuristic"}

// orders are the words of --order.
var orders = map[string]pb.Order{
	"id": pb.Order_ORDER_UNSPECIFIED, "oldest": pb.Order_OLDEST_FIRST, "newest": pb.Order_NEWEST_FIRST,
}

// listFlags are what tx list is told.
type listFlags struct {
	states    []string
	order     string
	olderThan time.Duration
	all       bool
}

func newTxListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List transactions, from one node's own copy",
		Long: `List transactions, from one node's own copy. Every filter must hold; of several
states, one. The state "unfinished" stands for preparing, committing and aborting;
"heuristic" for any with a branch that somebody else settled, against or before the
decision, whether an operator has acknowledged it or not.

A page ends at --limit; if there is more, the place to go on from is printed on
stderr (in JSON: "next") and given to --after, with the same filters and order.
--all asks for page after page; what changes meanwhile may be seen or not.

A state with a ! needs an operator: see 'concordat tx explain ID'.`,
		Example: `  concordat tx list --state preparing,committing
  concordat tx list --unfinished --older-than 30s --order oldest
  concordat tx list --participant seats --limit 20 --after booking-41
  concordat tx list --needs-operator -o json
  concordat tx list --all --order newest -o jsonl`,
		Args: usageArgs(cobra.NoArgs),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	var f listFlags
	req := &pb.ListRequest{}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only these states: "+strings.Join(stateNames, ", "))
	flags.StringVar(&req.Participant, "participant", "", "only transactions with a branch of this participant")
	flags.BoolVar(&req.Unfinished, "unfinished", false, "only those that are not finished")
	flags.BoolVar(&req.NeedsOperator, "needs-operator", false, "only those with a heuristic that nobody has acknowledged")
	flags.DurationVar(&f.olderThan, "older-than", 0, "only those that began at least so long ago, by the node's clock")
	flags.StringVar(&f.order, "order", "id", "id, oldest (first) or newest (first)")
	flags.Uint32Var(&req.Limit, "limit", 100, "how many at most, 1 to 1000")
	flags.StringVar(&req.After, "after", "", "go on behind this place; in order of id it may be any id")
	flags.BoolVar(&f.all, "all", false, "every page, not one")
	completeFlag(cmd, "state", words(stateNames...))
	completeFlag(cmd, "participant", a.participantNames())
	completeFlag(cmd, "order", words(slices.Sorted(maps.Keys(orders))...))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.complete(cmd, req); err != nil {
			return err
		}
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			if f.all {
				return out.everyPage(ctx, c, req)
			}
			resp, err := c.List(ctx, req)
			if err != nil {
				return err
			}
			return out.transactions(resp)
		})
	}
	return cmd
}

// complete checks the flags and puts them into the request.
func (f *listFlags) complete(cmd *cobra.Command, req *pb.ListRequest) (err error) {
	states := slices.DeleteFunc(slices.Clone(f.states), func(name string) bool { return strings.EqualFold(name, "heuristic") })
	req.Heuristic = len(states) < len(f.states)
	if req.States, err = parseStates(states); err != nil {
		return err
	}
	order, ok := orders[f.order]
	switch {
	case !ok:
		return usageErrorf("--order: id, oldest or newest, got %q", f.order)
	case f.olderThan < 0:
		return usageErrorf("--older-than: must be at least 0, got %s", f.olderThan)
	case f.all && cmd.Flags().Changed("limit"):
		return usageErrorf("--all and --limit: say one of them, not both")
	case req.GetLimit() < 1 || req.GetLimit() > maxPage:
		return usageErrorf("--limit: 1 to %d, got %d", maxPage, req.GetLimit())
	}
	req.Order = order
	if f.olderThan > 0 {
		req.MinAge = durationpb.New(f.olderThan)
	}
	return nil
}

// parseStates reads the words of --state.
func parseStates(names []string) ([]pb.State, error) {
	var states []pb.State
	for _, name := range names {
		if name == "unfinished" {
			states = append(states, pb.State_STATE_PREPARING, pb.State_STATE_COMMITTING, pb.State_STATE_ABORTING)
			continue
		}
		s, ok := pb.State_value["STATE_"+strings.ToUpper(name)]
		if !ok || !slices.Contains(stateNames, strings.ToLower(name)) {
			return nil, usageErrorf("--state: must be one of %s, got %q", strings.Join(stateNames, ", "), name)
		}
		states = append(states, pb.State(s))
	}
	slices.Sort(states)
	return slices.Compact(states), nil
}

// everyPage prints all that there is. Lines are printed page by page.
func (o *output) everyPage(ctx context.Context, c *rpc.Client, req *pb.ListRequest) error {
	req.Limit = maxPage
	all := &pb.ListResponse{}
	for {
		page, err := c.List(ctx, req)
		if err != nil {
			return err
		}
		all.Index = page.GetIndex()
		if o.format == formatLines {
			all.Transactions = nil
		}
		all.Transactions = append(all.Transactions, page.GetTransactions()...)
		last := page.GetNext() == "" || page.GetNext() == req.GetAfter()
		if o.format == formatLines || last {
			if err := o.transactions(all); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		req.After = page.GetNext()
	}
}

// transactions prints one page.
func (o *output) transactions(resp *pb.ListResponse) error {
	items := make([]object, 0, len(resp.GetTransactions()))
	for _, t := range resp.GetTransactions() {
		one, err := transactionObject(t)
		if err != nil {
			return err
		}
		items = append(items, one)
	}
	value := object{
		"transactions": items, "more": resp.GetMore(), "next": resp.GetNext(), "index": count(resp.GetIndex()),
	}
	err := printList(o, value, items, func(w io.Writer) error { return transactionsTable(w, resp.GetTransactions(), time.Now()) })
	if err == nil && resp.GetMore() && o.format != formatJSON {
		fmt.Fprintf(o.app.stderr, "There are more: --after %s\n", printable(resp.GetNext()))
	}
	return err
}

// transactionsTable prints one line a transaction.
func transactionsTable(w io.Writer, list []*pb.TransactionResponse, now time.Time) error {
	g := newGrid(w, "ID", "STATE", "AGE", "PARTICIPANTS", "PENDING", "TRIES", "REASON")
	for _, t := range list {
		var names []string
		var tries uint32
		for _, b := range t.GetBranches() {
			names = append(names, b.GetParticipant())
			tries = max(tries, b.GetTries())
		}
		state := stateName(t.GetState())
		if t.GetHeuristic() != pb.Heuristic_HEURISTIC_NONE {
			state += " " + heuristicName(t.GetHeuristic())
		}
		if t.GetNeedsOperator() {
			state += "!"
		}
		g.row(t.GetId(), state, ageText(t, now), dash(strings.Join(names, ",")), dash(strings.Join(t.GetPending(), ",")),
			triesText(tries), dash(reasonText(t.GetReason())))
	}
	return g.flush()
}

// ageText is how long ago a transaction began.
func ageText(t *pb.TransactionResponse, now time.Time) string {
	if t.GetBegunAt() == nil {
		return "-"
	}
	return durationText(now.Sub(t.GetBegunAt().AsTime()))
}

// durationText rounds to what a person reads: two digits or so.
func durationText(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

func triesText(n uint32) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(n), 10)
}
