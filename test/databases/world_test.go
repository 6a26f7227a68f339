package databases

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/test/database"
)

// The participants, by what is under them.
const (
	pg    = "postgres"
	maria = "mariadb"
	kv    = "kv"
)

// bank is two databases.
type bank struct {
	postgres pgVault
	maria    mariaVault
}

func newBank(t testing.TB, accounts int) *bank {
	t.Helper()
	return &bank{newPGVault(t, accounts), newMariaVault(t, accounts)}
}

// vaults are the two, by participant.
func (b *bank) vaults() map[string]vault { return map[string]vault{pg: b.postgres, maria: b.maria} }

// world is a cluster with the KV participant and an agent over each database.
type world struct {
	*local.Cluster
	*bank
	t      testing.TB
	dir    string
	suffix string // of the participants' names
	client *rpc.Client
	agents map[string]*agent // by kind
}

// agent is a process of the ready-made agent.
type agent struct {
	*local.Process
	listen string
}

// newWorld starts everything; args are added to the agents' command lines.
// Clusters that share a bank need different suffixes.
func newWorld(t testing.TB, b *bank, suffix string, args ...string) *world {
	t.Helper()
	w := &world{bank: b, t: t, dir: t.TempDir(), suffix: suffix, agents: map[string]*agent{}}
	c, err := local.Start(within(t, patience), local.Config{Binary: binary, Dir: w.dir, Nodes: 3, Participants: []string{w.name(kv)}})
	if err != nil {
		t.Fatal(err)
	}
	w.Cluster = c
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
		if t.Failed() {
			w.showLogs()
		}
	})
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	for _, kind := range []string{pg, maria} {
		w.agents[kind] = w.newAgent(kind, w.name(kind), args...)
		w.start(w.agents[kind].Process)
	}
	w.reachable(1)
	return w
}

func (w *world) name(kind string) string { return kind + w.suffix }

// newAgent describes an agent of a database; process is its name in the logs.
func (w *world) newAgent(kind, process string, args ...string) *agent {
	w.t.Helper()
	verb, dsn := "postgres", w.postgres.dsn
	if kind == maria {
		verb, dsn = "mysql", w.maria.dsn
	}
	port, err := database.FreePort()
	if err != nil {
		w.t.Fatal(err)
	}
	a := &agent{listen: fmt.Sprintf("127.0.0.1:%d", port)}
	a.Process = local.NewProcess("agent-"+process, binary, w.dir, append([]string{
		"participant", verb, "--name", w.name(kind), "--listen", a.listen, "--nodes", strings.Join(w.Addresses(), ","), "--register",
	}, args...), []string{"CONCORDAT_DSN=" + dsn, failpoint.DirVariable + "=" + w.dir})
	w.t.Cleanup(func() {
		if err := a.Stop(10 * time.Second); err != nil {
			w.t.Errorf("end of %s: %v", a.Name, err)
		}
	})
	return a
}

// listens waits until the agent can be asked.
func (a *agent) listens(t testing.TB) {
	t.Helper()
	eventually(t, patience, a.Name+" listens", func() bool {
		conn, err := net.Dial("tcp", a.listen)
		return err == nil && conn.Close() == nil
	})
}

// reachable waits until every database has so many endpoints, and the cluster
// reaches every participant.
func (w *world) reachable(endpoints int) {
	w.t.Helper()
	eventually(w.t, patience, "all participants are registered and reachable", func() bool {
		list, err := w.client.ListParticipants(within(w.t, 5*time.Second))
		if err != nil || len(list) != 3 {
			return false
		}
		for _, p := range list {
			want := endpoints
			if p.GetName() == w.name(kv) {
				want = 1
			}
			if !p.GetReachable() || len(p.GetEndpoints()) != want {
				return false
			}
		}
		return true
	})
}

func (w *world) start(p *local.Process, env ...string) {
	w.t.Helper()
	if err := p.StartWith(env...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kill(p *local.Process) {
	w.t.Helper()
	if err := p.Kill(); err != nil {
		w.t.Fatal(err)
	}
}

// showLogs prints what the processes said, so that a failure can be understood.
func (w *world) showLogs() {
	list, _ := os.ReadDir(w.dir)
	for _, e := range list {
		if text, err := os.ReadFile(w.dir + "/" + e.Name()); err == nil && strings.HasSuffix(e.Name(), ".log") {
			w.t.Logf("---- %s ----\n%s", e.Name(), text[max(0, len(text)-4000):])
		}
	}
}

// preparedOf are the branches of a transaction that a database lists.
func (w *world) preparedOf(kind, id string) []string {
	w.t.Helper()
	list, err := w.vaults()[kind].prepared(within(w.t, patience))
	if err != nil {
		w.t.Fatal(err)
	}
	var found []string
	for _, name := range list {
		if strings.Contains(name, id) || strings.Contains(name, fmt.Sprintf("%x", id)) {
			found = append(found, name)
		}
	}
	return found
}

// nothingPrepared waits until no branch is, of anybody.
func (w *world) nothingPrepared(limit time.Duration) {
	w.t.Helper()
	for kind, v := range w.vaults() {
		var list []string
		eventually(w.t, limit, "nothing is prepared in "+kind, func() bool {
			var err error
			list, err = v.prepared(within(w.t, 5*time.Second))
			return err == nil && len(list) == 0
		})
	}
}
