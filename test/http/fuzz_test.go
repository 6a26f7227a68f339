package http

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	fuzzTime = flag.Duration("fuzz-time", 5*time.Second, "how long TestFuzz runs")
	seed     = flag.Uint64("seed", 0, "seed of TestFuzz; 0 draws one")
)

const (
	// fuzzRound is how many requests are sent before it is checked what they left.
	fuzzRound   = 1000
	fuzzClients = 16
	// loosePatience is how long a broken request may have no answer.
	loosePatience = 300 * time.Millisecond
)

// TestFuzz sends requests made of chance to a real cluster: routes, queries,
// headers, bodies and HTTP itself. Nothing panics; every answer is right or a
// refusal that names what is wrong; of the 5xx there are those of UNAVAILABLE,
// DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED (429) alone; a refused request
// leaves nothing in the log and nothing in the processes' logs.
func TestFuzz(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	repeat := fmt.Sprintf("repeat with: go test ./test/http -run '^TestFuzz$' -seed %d -fuzz-time %s", s, *fuzzTime)
	t.Log(repeat)
	w := newWorld(t, "a", "b", "spare")
	f := &fuzzer{w: w, statuses: map[int]int{}}
	for _, n := range w.nodes {
		f.addresses = append(f.addresses, n.RPCAddress(), n.HTTPAddress())
	}
	f.addresses = append(f.addresses, w.endpoints...)
	end := time.Now().Add(*fuzzTime)
	for first := uint64(0); time.Now().Before(end) && !t.Failed(); first += fuzzRound {
		refused := f.round(s, first)
		f.checkLogs()
		f.checkTraces(refused)
		f.checkLogs()
	}
	t.Logf("statuses: %v", f.statuses)
	if f.statuses[http.StatusOK] == 0 || f.statuses[http.StatusBadRequest] == 0 {
		t.Errorf("the requests are all alike: %v", f.statuses)
	}
	if t.Failed() {
		t.Error(repeat)
	}
}

type fuzzer struct {
	w         *world
	addresses []string
	scanned   int // of the logs

	mu       sync.Mutex
	statuses map[int]int
}

// sent is a request with the node that it went to and the number that makes it.
type sent struct {
	generated
	node   int
	number uint64
}

func (s sent) String() string {
	text := s.text
	if len(text) > 1500 {
		text = text[:1500] + "…"
	}
	return fmt.Sprintf("request %d to node %d: %q", s.number, s.node, text)
}

// round sends the next requests and returns those that were refused.
func (f *fuzzer) round(seed, first uint64) (refused []sent) {
	var clients sync.WaitGroup
	for c := range uint64(fuzzClients) {
		clients.Go(func() {
			for number := first + c; number < first+fuzzRound; number += fuzzClients {
				g := &generator{rand.New(rand.NewPCG(seed, number)), f.addresses}
				one := sent{node: g.IntN(len(f.w.nodes)), number: number}
				one.generated = g.request()
				r := f.send(one)
				if err := f.judge(one, r); err != nil {
					f.w.t.Errorf("%v: %s", err, one)
				}
				f.mu.Lock()
				f.statuses[r.status]++
				if r.status >= 400 && r.status < 500 && !one.loose {
					refused = append(refused, one)
				}
				f.mu.Unlock()
			}
		})
	}
	clients.Wait()
	return refused
}

func (f *fuzzer) send(one sent) response {
	limit := patience
	if one.loose {
		limit = loosePatience
	}
	return f.w.exchange(one.node, one.method, one.text, one.loose, limit)
}

// judge says what is wrong with an answer.
func (f *fuzzer) judge(one sent, r response) error {
	if one.loose && r.status == 0 {
		return nil
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(one.text)))
	if r.err != nil && err != nil {
		return nil // the server ends the connection, and its answer may be lost with it
	}
	if r.err != nil && !one.loose {
		return fmt.Errorf("no answer: %w", r.err)
	}
	kind := r.header.Get("Content-Type")
	own := strings.HasPrefix(kind, "text/plain") || r.status == http.StatusExpectationFailed // of net/http, or a page that is no JSON
	allowed := r.status >= 100 && r.status < 500 || r.status == http.StatusServiceUnavailable || r.status == http.StatusGatewayTimeout
	if !allowed && !(one.loose && own && (r.status == http.StatusNotImplemented || r.status == http.StatusHTTPVersionNotSupported)) {
		return fmt.Errorf("status %d: %.500q", r.status, r.body)
	}
	switch {
	case one.method == http.MethodHead, one.loose && (own || r.err != nil):
		return nil
	case err != nil:
		if r.status != http.StatusBadRequest {
			return fmt.Errorf("status %d to what is no request: %w", r.status, err)
		}
		return nil
	case r.status >= 400 && !(own && r.status == http.StatusServiceUnavailable && req.URL.Path == "/readyz"):
		return f.w.doc.checkError(r)
	case kind == "application/json" && !json.Valid([]byte(r.body)):
		return fmt.Errorf("status %d is not JSON: %.500q", r.status, r.body)
	case strings.HasPrefix(req.URL.Path, "/v1/") && kind == "application/json":
		in, err := f.w.doc.input(req, "")
		if err != nil {
			return err
		}
		return f.w.doc.checkResponse(in, r)
	}
	return nil
}

// checkLogs looks for what no request may bring a process to say.
func (f *fuzzer) checkLogs() {
	if text := foreign.String(); text != "" {
		f.w.t.Errorf("gRPC or its gateway says %s", text)
	}
	text := f.w.logs.String()
	fresh := text[f.scanned:]
	f.scanned = len(text)
	for line := range strings.Lines(fresh) {
		if mustNotBeSaid(line) {
			f.w.t.Errorf("a process says %s", line)
		}
	}
}

// checkTraces sends what was refused once more, while nothing else happens: all
// together, and one by one if that left something.
func (f *fuzzer) checkTraces(refused []sent) {
	before := f.w.quiet()
	refused = slices.DeleteFunc(refused, func(one sent) bool {
		r := f.send(one)
		return r.status < 400 || r.status >= 500 // not any more: then it may leave something
	})
	if f.w.marks() == before {
		return
	}
	before = f.w.quiet()
	for _, one := range refused {
		f.send(one)
	}
	if f.w.marks() == before {
		return
	}
	for _, one := range refused {
		if err := f.w.leavesNoTrace(func() response { return f.send(one) }); err != nil {
			f.w.t.Errorf("%v: %s", err, one)
		}
	}
}
