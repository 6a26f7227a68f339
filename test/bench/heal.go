package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	healWorst   = 2.0 // s
	healClients = 32
	healCut     = 10 * time.Second
)

// heal cuts a participant off from every node in the middle of a load, so that
// it has voted and does not learn the decision, and heals the cut.
func heal(ctx context.Context, b *bench) (err error) {
	s, err := b.stage(ctx, "heal", []string{"accounts"})
	if err != nil {
		return err
	}
	defer s.close()
	island, err := s.newIsland(ctx, "island")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, island.close()) }()
	var times []float64
	held, want := 0, pick(b, 5, 1)
	for try := 0; len(times) < want; try++ {
		if try == 4*want {
			return fmt.Errorf("only %d of %d cuts found a prepared branch", len(times), try)
		}
		n, took, err := s.cutOff(ctx, island)
		if err != nil {
			return err
		}
		b.logf("heal: %d prepared while cut off, settled %.3f s after healing", n, took.Seconds())
		if n == 0 {
			continue
		}
		held += n
		times = append(times, took.Seconds())
	}
	b.report.below(healWorst, figure{
		Experiment: "heal", Name: "healing to settled, worst", Value: slices.Max(times), Unit: "s", Samples: len(times),
		Note: fmt.Sprintf("%d branches were prepared in all, cut off for %s", held, healCut),
	})
	b.report.tell("heal", "healing to settled, median", median(times), "s", len(times), "")
	return nil
}

// cutOff returns how many branches were prepared before the healing, and how
// long it took to settle them.
func (s *stage) cutOff(ctx context.Context, i *island) (held int, took time.Duration, err error) {
	l := newLoad(s.clients, "accounts", i.process.Name)
	run := l.closed(ctx, healClients)
	sleep(ctx, time.Second)
	err = i.cut()
	run.halt() // its calls go on: they wait for the participant
	defer run.stop()
	if err != nil {
		return 0, 0, err
	}
	sleep(ctx, time.Second) // what was under way within the participant has ended by then
	early, err := prepared(ctx, i.endpoint)
	if err != nil {
		return 0, 0, err
	}
	sleep(ctx, healCut-time.Second)
	if held, err = prepared(ctx, i.endpoint); err != nil {
		return 0, 0, err
	}
	if held < early {
		return 0, 0, fmt.Errorf("the cut leaks: of %d prepared branches %d are left before it is healed", early, held)
	}
	start := time.Now()
	if err := i.heal(); err != nil {
		return 0, 0, err
	}
	_, done, err := settled(ctx, i.endpoint, time.Minute)
	if err != nil {
		return 0, 0, err
	}
	return held, done.Sub(start), s.drained(ctx, 30*time.Second)
}

// island is a KV participant whose every way to and from the nodes leads
// through relays that can be cut.
type island struct {
	process  *local.Process
	endpoint string // its own, which only this program uses
	relays   []*relay
}

func (s *stage) newIsland(ctx context.Context, name string) (i *island, err error) {
	i = &island{}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	var toNodes []string
	for _, n := range s.Nodes {
		r, err := newRelay(n.RPC)
		if err != nil {
			return i, err
		}
		i.relays = append(i.relays, r)
		toNodes = append(toNodes, r.address())
	}
	if i.endpoint, err = freeAddress(); err != nil {
		return i, err
	}
	in, err := newRelay(i.endpoint)
	if err != nil {
		return i, err
	}
	i.relays = append(i.relays, in)
	i.process = local.NewProcess(name, s.bench.binary, s.dir, []string{
		"participant", "kv", "--name", name, "--listen", i.endpoint, "--data-dir", filepath.Join(s.dir, name),
		"--nodes", strings.Join(toNodes, ","),
	}, nil)
	if err := i.process.Start(); err != nil {
		return i, err
	}
	if _, err := listening(ctx, i.endpoint); err != nil {
		return i, err
	}
	_, err = s.clients[0].AddParticipant(ctx, &pb.AddParticipantRequest{Name: name, Endpoints: []string{in.address()}})
	return i, err
}

func (i *island) cut() (err error) {
	for _, r := range i.relays {
		err = errors.Join(err, r.cut())
	}
	return err
}

func (i *island) heal() (err error) {
	for _, r := range i.relays {
		err = errors.Join(err, r.heal())
	}
	return err
}

func (i *island) close() (err error) {
	if i.process != nil {
		err = i.process.Stop(10 * time.Second)
	}
	for _, r := range i.relays {
		r.close()
	}
	return err
}
