package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// census is what the database under one participant holds prepared.
type census struct {
	Participant string
	Found       *pb.CensusResponse
	Err         error
}

func newParticipantsCensusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "census [NAME…]",
		Short: "List every prepared transaction in the databases of the participants",
		Long: `List every prepared transaction that the databases under the participants hold,
whoever made it, the oldest first: it holds locks, takes one of the database's places
and keeps the database from cleaning up. OURS is a branch of that participant, which
the cluster settles by itself; OTHER_PARTICIPANT one of another participant of this
cluster; OTHER_CLUSTER one of another Concordat cluster; FOREIGN is somebody else's,
and Concordat never touches it. BLOCKS names the sessions that wait for its locks.

Without NAME every participant whose data are in a database is asked. Exit status:
0 all answered, 1 some did not.`,
		Example: `  concordat participants census
  concordat participants census payments -o json`,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: a.participantNames(),
	}
	client, out := a.clientFlags(cmd), a.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return client.with(cmd.Context(), func(ctx context.Context, c *rpc.Client) error {
			list, err := takeCensus(ctx, c, args)
			if err != nil {
				return err
			}
			if err := out.censuses(list); err != nil {
				return err
			}
			failed := slices.IndexFunc(list, func(one census) bool { return one.Err != nil })
			if failed >= 0 {
				return fmt.Errorf("participant %s: %w", list[failed].Participant, list[failed].Err)
			}
			return nil
		})
	}
	return cmd
}

// takeCensus asks the participants that are named, or all with a database.
func takeCensus(ctx context.Context, c *rpc.Client, names []string) ([]census, error) {
	all := len(names) == 0
	if all {
		registry, err := c.ListParticipants(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range registry {
			if p.GetState() != stateRemoved {
				names = append(names, p.GetName())
			}
		}
	}
	list := make([]census, len(names))
	eachOf(names, func(i int, name string) {
		try, cancel := context.WithTimeout(ctx, askEach)
		defer cancel()
		list[i].Participant = name
		list[i].Found, list[i].Err = c.Census(try, name)
	})
	return slices.DeleteFunc(list, func(one census) bool { return all && rpc.ReasonOf(one.Err) == rpc.ReasonUnimplemented }), nil
}

// askEach bounds one participant's answer, so that one that is down does not
// keep the others' from being shown.
const (
	askEach = 3 * time.Second
	// askBeside is how many are asked at the same time.
	askBeside = 16
)

// eachOf calls f with every name, some at the same time.
func eachOf(names []string, f func(i int, name string)) {
	turns := make(chan struct{}, askBeside)
	var all sync.WaitGroup
	for i, name := range names {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			f(i, name)
		})
	}
	all.Wait()
}

func (o *output) censuses(list []census) error {
	var items []object
	for _, one := range list {
		item := object{"participant": one.Participant, "capacity": one.Found.GetCapacity(), "horizon": one.Found.GetHorizon(), "prepared": []any{}}
		if one.Err != nil {
			item["error"] = faultOf(one.Err)
		} else {
			value, err := toObject(one.Found)
			if err != nil {
				return err
			}
			item["prepared"] = value["prepared"]
		}
		items = append(items, item)
	}
	return printList(o, object{"censuses": items}, items, func(w io.Writer) error { return censusTable(w, list) })
}

func censusTable(w io.Writer, list []census) error {
	g := newGrid(w, "PARTICIPANT", "OWNER", "TRANSACTION", "AGE", "DATABASE", "USER", "BLOCKS", "NAME")
	rows := 0
	for _, one := range list {
		for _, p := range one.Found.GetPrepared() {
			age := "-"
			if p.GetAgeSeconds() >= 0 {
				age = durationText(time.Duration(p.GetAgeSeconds() * float64(time.Second)))
			}
			g.row(one.Participant, p.GetOwner().String(), dash(p.GetId()), age, dash(p.GetDatabase()), dash(p.GetUser()),
				dash(strings.Join(p.GetBlocks(), ",")), p.GetName())
			rows++
		}
	}
	if rows == 0 {
		fmt.Fprintln(w, "Nothing is prepared.")
	} else if err := g.flush(); err != nil {
		return err
	}
	for _, one := range list {
		line := strconv.Itoa(len(one.Found.GetPrepared())) + " prepared"
		if n := one.Found.GetCapacity(); n > 0 {
			line += fmt.Sprintf(" of %d places", n)
		}
		if h := one.Found.GetHorizon(); h != "" {
			line += "; " + h
		}
		if one.Err != nil {
			line = "no answer: " + one.Err.Error()
		}
		fmt.Fprintf(w, "%s: %s\n", printable(one.Participant), printable(line))
	}
	return nil
}
