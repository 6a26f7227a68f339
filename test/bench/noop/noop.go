// Package noop is a participant without data: it votes PREPARED at once, keeps
// what the protocol must remember in memory, and forgets it all when it ends. So
// what is measured over it is the coordinator. Nobody may use it for anything
// else: its vote is no promise (P5).
package noop

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Role is what Run plays.
const Role = "noop-participant"

// Run serves participants until ctx ends, as concordat participant does.
func Run(ctx context.Context, args []string) error {
	var names, listen, nodes string
	flags := flag.NewFlagSet(Role, flag.ContinueOnError)
	flags.StringVar(&names, "name", "", "in the registry, a,b,…: as many participants, in this process")
	flags.StringVar(&listen, "listen", "", "where nodes are served, for each name")
	flags.StringVar(&nodes, "nodes", "", "addresses of the cluster")
	if err := flags.Parse(args); err != nil {
		return err
	}
	name, at := strings.Split(names, ","), strings.Split(listen, ",")
	if len(name) != len(at) {
		return fmt.Errorf("%d names and %d addresses", len(name), len(at))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(name))
	for i := range name {
		go func() {
			defer cancel()
			ended <- participant.Serve(ctx, participant.Service{
				Config: participant.Config{Name: name[i], ResourceManager: newManager()},
				Nodes:  strings.Split(nodes, ","), Listen: at[i], Register: true,
			})
		}()
	}
	var errs []error
	for range name {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// manager is the resource manager.
type manager struct {
	mu       sync.Mutex // guards what follows
	identity participant.Identity
	entries  map[string]*list.Element // of order, by id
	order    list.List                // of *branch, as they came
}

// branch is an id with its entry.
type branch struct {
	id    string
	entry participant.Entry
}

func newManager() *manager {
	return &manager{
		identity: participant.Identity{Kind: "noop", Incarnation: rand.Text()},
		entries:  map[string]*list.Element{},
	}
}

func (m *manager) Identity(context.Context) (participant.Identity, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.identity, nil
}

func (m *manager) Bind(_ context.Context, b participant.Binding) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identity.Binding = b
	return nil
}

func (m *manager) Prepare(_ context.Context, w participant.Work) (participant.Vote, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(w.ID)
	v := e.OnPrepare(w.Ref, m.identity.Binding.Floor)
	switch {
	case v.Step == participant.Execute:
		m.store(w.ID, e.Hold(w, nil))
	case v.Store:
		m.store(w.ID, v.Entry)
	}
	if v.Step == participant.Refuse {
		return participant.Aborted(v.Code, v.Reason), nil
	}
	return participant.Prepared(nil), nil
}

// entry is what is kept for id. Caller holds mu.
func (m *manager) entry(id string) participant.Entry {
	if at := m.entries[id]; at != nil {
		return at.Value.(*branch).entry
	}
	return participant.Entry{}
}

// store keeps an entry, unless there is nothing to keep. Caller holds mu.
func (m *manager) store(id string, e participant.Entry) {
	switch at := m.entries[id]; {
	case at != nil && e.IsZero():
		m.order.Remove(at)
		delete(m.entries, id)
	case at != nil:
		at.Value.(*branch).entry = e
	case !e.IsZero():
		m.entries[id] = m.order.PushBack(&branch{id, e})
	}
}

func (m *manager) Commit(_ context.Context, ref participant.Ref) (participant.Settlement, error) {
	return m.settle(ref, participant.Entry.OnCommit), nil
}

func (m *manager) Rollback(_ context.Context, ref participant.Ref) (participant.Settlement, error) {
	return m.settle(ref, participant.Entry.OnRollback), nil
}

func (m *manager) settle(ref participant.Ref, judge func(participant.Entry, participant.Ref) participant.SettleVerdict) participant.Settlement {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := judge(m.entry(ref.ID), ref)
	if v.Step == participant.Apply || v.Step == participant.Tombstone {
		m.store(ref.ID, v.Entry)
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}
}

func (m *manager) Held(context.Context) (held []participant.Held, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := m.order.Front(); at != nil; at = at.Next() {
		b := at.Value.(*branch)
		if h := b.entry.Held; h != nil {
			held = append(held, participant.Held{Ref: participant.Ref{ID: b.id, Attempt: h.Attempt, Digest: h.Digest}, Priority: h.Priority})
		}
	}
	return held, nil
}

func (m *manager) Finished(_ context.Context, limit int) (refs []participant.Ref, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := m.order.Front(); at != nil; at = at.Next() {
		if refs = append(refs, at.Value.(*branch).entry.Finished()...); len(refs) >= limit {
			return refs[:limit], nil
		}
	}
	return refs, nil
}

func (m *manager) Forget(_ context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identity.Binding.Floor = floor
	for _, ref := range refs {
		m.store(ref.ID, m.entry(ref.ID).Forget(floor, []participant.Ref{ref}))
	}
	return nil
}
