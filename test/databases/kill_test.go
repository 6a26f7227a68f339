package databases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// victim is something that is killed and comes back.
type victim struct {
	name string
	// databases are where its branches wait meanwhile.
	databases []string
	kill      func() error
	// back starts it, and returns when it can be reached again.
	back func() error

	settled []time.Duration // from then on, until the branches that waited are settled
	waited  int             // how many branches did
}

// victims are all of them.
func (w *world) victims() []*victim {
	process := func(name, database string) *victim {
		a := w.agents[name]
		return &victim{name: "agent of " + name, databases: []string{database}, kill: a.Kill, back: func() error {
			err := a.Start()
			a.listens(w.t)
			return err
		}}
	}
	ctx := context.Background()
	var led *local.Node
	return []*victim{
		{name: "server of " + pg, databases: []string{pg}, kill: postgres.Kill, back: func() error { return postgres.Restart(ctx) }},
		{name: "server of " + maria, databases: []string{maria}, kill: mariaDB.Kill, back: func() error { return mariaDB.Restart(ctx) }},
		process(pg, pg),
		process(maria, maria),
		{name: "leader", databases: []string{pg, maria}, kill: func() (err error) {
			if led, err = w.AwaitLeader(within(w.t, patience)); err != nil {
				return err
			}
			return led.Kill()
		}, back: func() error {
			_, err := w.AwaitLeader(within(w.t, patience))
			return errors.Join(err, led.Start())
		}},
	}
}

// TestKilled: servers, agents and the leader are killed with kill -9 under
// load, each several times. What was answered has happened, money is constant,
// and no branch stays prepared.
func TestKilled(t *testing.T) {
	w := newWorld(t, newBank(t, accounts), "")
	l := newLoad(w)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 12) })
	defer func() { // also when it fails
		stop()
		wg.Wait()
	}()
	victims := w.victims()
	for range *rounds {
		for _, v := range victims {
			before := l.commits.Load()
			eventually(t, patience, "the load commits, before the kill of the "+v.name, func() bool { return l.commits.Load() >= before+8 })
			w.strike(v)
		}
	}
	before := l.commits.Load()
	eventually(t, patience, "the load commits at the end", func() bool { return l.commits.Load() >= before+8 })
	stop()
	wg.Wait()
	l.audit()
	for _, v := range victims {
		slices.Sort(v.settled)
		t.Logf("%-18s killed %d times; %3d branches waited, settled within %v to %v of its return",
			v.name, len(v.settled), v.waited, v.settled[0], v.settled[len(v.settled)-1])
	}
}

// strike kills the victim and demands that the branches that it leaves prepared
// are settled in time.
func (w *world) strike(v *victim) {
	w.t.Helper()
	if err := v.kill(); err != nil {
		w.t.Fatal(err)
	}
	left, err := w.held(v.databases)
	down := err != nil // the databases themselves are
	if err := v.back(); err != nil {
		w.t.Fatal(err)
	}
	returned := time.Now()
	if down {
		if left, err = w.held(v.databases); err != nil {
			w.t.Fatal(err)
		}
	}
	eventually(w.t, settles, fmt.Sprintf("the branches %v are settled after the return of the %s", left, v.name), func() bool {
		now, err := w.held(v.databases)
		return err == nil && !slices.ContainsFunc(left, func(name string) bool { return slices.Contains(now, name) })
	})
	v.waited += len(left)
	v.settled = append(v.settled, time.Since(returned).Round(time.Millisecond))
}

// held are the branches that are prepared in some of the databases.
func (w *world) held(databases []string) ([]string, error) {
	var list []string
	for _, kind := range databases {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		names, err := w.vaults()[kind].prepared(ctx)
		cancel()
		if err != nil {
			return nil, err
		}
		list = append(list, names...)
	}
	return list, nil
}
