package tcc

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"sync"
	"testing"
	"time"
)

// side of a call that the gate may stop: on its way to the service, or back.
type side int

const (
	there side = iota
	back
)

func (s side) String() string {
	if s == there {
		return "before the service"
	}
	return "after the service"
}

// gate is between agent and service. It passes calls on byte by byte.
type gate struct {
	t      *testing.T
	target *url.URL
	server *httptest.Server
	late   sync.WaitGroup

	mu sync.Mutex // guards all below
	// stop is the call to stop at a side, once; stopped is closed when it is there, and go on when it may go on.
	stop            string
	at              side
	stopped, goOn   chan struct{}
	lossy           bool
	lost, duplicate int // counted while lossy
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, target: u}
	g.server = httptest.NewServer(g)
	t.Cleanup(g.close)
	return g
}

// close waits for the calls under way, and for the late ones.
func (g *gate) close() {
	g.server.CloseClientConnections()
	g.server.Close()
	g.late.Wait()
}

// next stops the next call of that name.
func (g *gate) next(call string, at side) (stopped <-chan struct{}, goOn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop, g.at, g.stopped, g.goOn = call, at, make(chan struct{}), make(chan struct{})
	return g.stopped, sync.OnceFunc(func() { close(g.goOn) })
}

func (g *gate) pause(call string, at side) {
	g.mu.Lock()
	if g.stop != call || g.at != at {
		g.mu.Unlock()
		return
	}
	g.stop = ""
	stopped, goOn := g.stopped, g.goOn
	g.mu.Unlock()
	close(stopped)
	<-goOn
}

func (g *gate) lossyNow(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lossy = on
}

// fate is what a lossy gate does to a call.
func (g *gate) fate() (loseThere, loseBack, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.lossy {
		return false, false, false
	}
	switch n := rand.IntN(100); {
	case n < 5:
		g.lost++
		return true, false, false
	case n < 20:
		g.lost++
		return false, true, false
	case n < 35:
		g.duplicate++
		return false, false, true
	}
	return false, false, false
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	call := path.Base(r.URL.Path)
	loseThere, loseBack, again := g.fate()
	g.pause(call, there)
	if loseThere {
		panic(http.ErrAbortHandler) // the connection breaks off
	}
	resp, answer, err := g.pass(r, body)
	g.pause(call, back)
	if again {
		g.late.Go(func() { // the same bytes once more, and later
			<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
			_, _, _ = g.pass(r, body) // nobody waits for the answer
		})
	}
	if err != nil || loseBack {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // the agent may be gone
}

func (g *gate) pass(r *http.Request, body []byte) (*http.Response, []byte, error) {
	u := *g.target
	u.Path = r.URL.Path
	req, err := http.NewRequest(r.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}
