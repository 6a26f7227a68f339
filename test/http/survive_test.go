package http

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// startProgram builds the program and runs three nodes and two participants as processes.
func startProgram(t *testing.T) *local.Cluster {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "concordat")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/concordat-tx/concordat").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := local.Start(ctx, local.Config{Binary: binary, Dir: dir, Nodes: 3, Participants: []string{"seats", "payments"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
		for _, n := range c.Nodes {
			if text, err := os.ReadFile(n.Log); err == nil && t.Failed() {
				t.Logf("---- %s ----\n%s", n.Name, text[max(0, len(text)-4000):])
			}
		}
	})
	return c
}

// load submits over HTTP, at one node after the other, and repeats by id what was not answered.
type load struct {
	nodes []string
	http  *http.Client
	begun atomic.Int64
	done  atomic.Int64
}

func (l *load) run(ctx context.Context, client int) {
	for k := 0; ctx.Err() == nil; k++ {
		id := fmt.Sprintf("c%d-%d", client, k)
		// Every third meets a condition that does not hold.
		body := fmt.Sprintf(`{"id": %q, "branches": [{"participant": "seats", "payload": {"ops": [{"op": "put", "key": %q, "value": %d}]}},
			{"participant": "payments", "payload": {"ops": [{"op": "check", "key": "none", "exists": %t}]}}]}`, id, id, k, k%3 == 0)
		l.begun.Add(1)
		deadline := time.Now().Add(patience) // not ctx: what has begun is brought to its end
		for try := client + k; !l.submit(l.nodes[try%len(l.nodes)], body); try++ {
			if time.Now().After(deadline) {
				return
			}
			time.Sleep(5 * time.Millisecond) // paces tries at nodes that are down
		}
		l.done.Add(1)
	}
}

func (l *load) submit(node, body string) bool {
	resp, err := l.http.Post("http://"+node+"/v1/transactions", "application/json", strings.NewReader(body))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// A reader of server-sent events whose node is killed, or shut down, again and
// again under load, the leader included, goes on at another one: every
// transaction's changes come once, in order, and none is missing.
func TestWatchSurvivesItsNode(t *testing.T) {
	c := startProgram(t)
	client := &http.Client{Timeout: patience}
	var nodes []string
	for _, n := range c.Nodes {
		nodes = append(nodes, n.HTTP)
	}
	e := &events{nodes: nodes, client: &http.Client{}}
	follow(t, e)
	l := &load{nodes: nodes, http: client}
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for k := range 4 {
		clients.Go(func() { l.run(ctx, k) })
	}
	t.Cleanup(func() { cancel(); clients.Wait() })
	for round := range 6 {
		before := len(e.of("changed"))
		eventually(t, "changes are told", func() bool { return len(e.of("changed")) > before+30 })
		n := c.Nodes[e.node()]
		if round%2 == 0 {
			eventually(t, n.Name+" leads", func() bool { return l.transfer(n.HTTP, n.ID) == http.StatusOK })
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		} else if err := n.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
		before = len(e.of("changed"))
		eventually(t, "changes are told without it", func() bool { return len(e.of("changed")) > before+30 })
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, n.Name+" is back", func() bool { return l.status(n.HTTP, "/readyz") == http.StatusOK })
	}
	cancel()
	clients.Wait()
	want := l.outcomes(t, nodes[0])
	eventually(t, "every end is told", func() bool { return len(e.lines("changed")) >= len(want)*3 })
	got := map[string][]string{}
	for _, line := range e.lines("changed") {
		id, state, _ := strings.Cut(line, " ")
		got[id] = append(got[id], state)
	}
	if len(got) != len(want) || int64(len(want)) != l.begun.Load() || l.done.Load() != l.begun.Load() {
		t.Errorf("events of %d transactions, %d are known, %d were begun, %d answered", len(got), len(want), l.begun.Load(), l.done.Load())
	}
	for id, end := range want {
		states := []string{"PREPARING", "COMMITTING", "COMMITTED"}
		if end == "STATE_ABORTED" {
			states = []string{"PREPARING", "ABORTING", "ABORTED"}
		}
		if !slices.Equal(got[id], states) {
			t.Errorf("%s is %s: told %v", id, end, got[id])
		}
	}
	t.Logf("%d transactions, %d streams", len(want), e.tries)
}

func (l *load) transfer(node, id string) int {
	resp, err := l.http.Post("http://"+node+"/v1/cluster:transfer", "application/json", strings.NewReader(`{"node": "`+id+`"}`))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (l *load) status(node, path string) int {
	resp, err := l.http.Get("http://" + node + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// outcomes waits until everything is finished and reads it, page by page.
func (l *load) outcomes(t *testing.T, node string) map[string]string {
	t.Helper()
	eventually(t, "everything is finished", func() bool { return l.finished(t, node) == l.begun.Load() })
	found := map[string]string{}
	for p := l.list(t, node, ""); ; p = l.list(t, node, "after="+p.Next) {
		for _, x := range p.Transactions {
			found[x.ID] = x.State
		}
		if !p.More {
			return found
		}
	}
}

// finished is how many transactions a node's own copy has to their end.
func (l *load) finished(t *testing.T, node string) (n int64) {
	t.Helper()
	for p := l.list(t, node, "limit=1000&state=committed&state=aborted"); ; p = l.list(t, node, "limit=1000&state=committed&state=aborted&after="+p.Next) {
		n += int64(len(p.Transactions))
		if !p.More {
			return n
		}
	}
}

func (l *load) list(t *testing.T, node, query string) (p page) {
	t.Helper()
	resp, err := l.http.Get("http://" + node + "/v1/transactions?" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("list: %d %v", resp.StatusCode, err)
	}
	return p
}
