package http

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// told is one server-sent event.
type told struct {
	ID, Event string
	Data      struct {
		Kind, Token string
		Transaction struct {
			ID, State, Node string
			Branches        []struct{ Participant, Vote string }
		}
		Error wireError
	}
	raw string
}

// events reads server-sent events as a browser does: when a stream ends, it
// asks the next node with the id of the last event that had one. A browser
// would ask the same address; a balancer in front makes that another node.
type events struct {
	nodes  []string // addresses, asked in turn
	client *http.Client
	query  string

	mu    sync.Mutex
	list  []told
	last  string
	tries int
	at    int // which node is read now, or was last
	fatal error
}

// run reads until ctx ends or a node refuses for good.
func (e *events) run(ctx context.Context) {
	for ctx.Err() == nil {
		e.mu.Lock()
		e.tries++
		e.at = e.tries % len(e.nodes)
		node, last := e.nodes[e.at], e.last
		e.mu.Unlock()
		if err := e.read(ctx, node, last); err != nil {
			e.mu.Lock()
			e.fatal = err
			e.mu.Unlock()
			return
		}
		time.Sleep(5 * time.Millisecond) // paces a reader whom nobody serves
	}
}

// read follows one stream; an error is one that no other node mends.
func (e *events) read(ctx context.Context, node, last string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+"/v1/transactions:watch"+e.query, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil // nobody listens there
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
			return nil
		}
		return fmt.Errorf("%d %s %w", resp.StatusCode, text, err)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		return fmt.Errorf("events come as %q", kind)
	}
	return e.take(resp.Body)
}

// take reads the lines of a stream to its end. An event that its empty line
// does not end is none.
func (e *events) take(r io.Reader) error {
	var one told
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		one.raw += lines.Text() + "\n"
		switch name {
		case "id":
			one.ID = value
		case "event":
			one.Event = value
		case "data":
			if err := json.Unmarshal([]byte(value), &one.Data); err != nil {
				return fmt.Errorf("%q: %w", value, err)
			}
		case "":
			if lines.Text() == "" && one.Event != "" {
				e.add(one)
			}
			if lines.Text() == "" {
				one = told{}
			}
		}
	}
	return nil // however it ended, it goes on at another node
}

func (e *events) add(one told) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, one)
	if one.ID != "" {
		e.last = one.ID
	}
}

// of are the events of a kind so far.
func (e *events) of(kind string) (list []told) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range e.list {
		if one.Event == kind {
			list = append(list, one)
		}
	}
	return list
}

// lines are changes as text: the id and the state that it entered.
func (e *events) lines(kind string) (list []string) {
	for _, one := range e.of(kind) {
		list = append(list, one.Data.Transaction.ID+" "+strings.TrimPrefix(one.Data.Transaction.State, "STATE_"))
	}
	return list
}

// node is which of the nodes is read now.
func (e *events) node() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

func (e *events) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fatal
}

// watch follows the events of node i, or of all nodes in turn if it is -1, until the test ends.
func (w *world) watch(i int, query string) *events {
	e := &events{query: query, client: w.http}
	for k, n := range w.nodes {
		if i < 0 || k == i {
			e.nodes = append(e.nodes, n.HTTPAddress())
		}
	}
	w.follow(e)
	return e
}

func (w *world) follow(e *events) { follow(w.t, e) }

// follow reads until the test ends, and returns once it has begun.
func follow(t testing.TB, e *events) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() { e.run(ctx) })
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		if err := e.failure(); err != nil {
			t.Errorf("the events ended: %v", err)
		}
	})
	eventually(t, "the events have begun", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.last != "" || e.fatal != nil
	})
}
