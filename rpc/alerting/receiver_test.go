package alerting

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// post is one POST as the receiver got it.
type post struct {
	at     time.Time
	raw    []byte
	header http.Header
	alerts []posted
}

// receiver is a real HTTP server on connections in memory, so that its clock
// can be a bubble's. It answers as it is told to and keeps what it took.
type receiver struct {
	t       *testing.T
	server  *http.Server
	dials   chan net.Conn
	serving chan struct{}

	mu       sync.Mutex // guards what follows
	status   int        // of answers; 0: connections are refused
	held     chan struct{}
	tried    []time.Time // every attempt, also those refused
	accepted []post
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, dials: make(chan net.Conn), serving: make(chan struct{}), status: http.StatusOK}
	r.server = &http.Server{Handler: r}
	go func() {
		defer close(r.serving)
		_ = r.server.Serve(r) // ends with Close
	}()
	return r
}

// webhook is a client of the receiver.
func (r *receiver) webhook(raw string) *Webhook {
	r.t.Helper()
	w, err := NewWebhook("url", raw)
	if err != nil {
		r.t.Fatal(err)
	}
	w.client.Transport.(*http.Transport).DialContext = r.dial
	return w
}

var errNobody = errors.New("connection refused")

func (r *receiver) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r.mu.Lock()
	down := r.status == 0
	if down {
		r.tried = append(r.tried, time.Now())
	}
	r.mu.Unlock()
	if down {
		return nil, errNobody
	}
	ours, theirs := net.Pipe()
	select {
	case r.dials <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (r *receiver) Accept() (net.Conn, error) {
	c, open := <-r.dials
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (r *receiver) Close() error {
	close(r.dials)
	return nil
}

// Addr implements net.Listener.
func (r *receiver) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (r *receiver) stop() {
	_ = r.server.Close()
	<-r.serving
}

// ServeHTTP takes nothing but what Alertmanager takes.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.tried = append(r.tried, time.Now())
	status, held := r.status, r.held
	r.mu.Unlock()
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender has gone
	}
	if held != nil {
		select {
		case <-held:
		case <-req.Context().Done():
			return
		}
	}
	if status/100 != 2 {
		http.Error(w, "not so", status)
		return
	}
	if req.Method != http.MethodPost || req.URL.Path != "/api/v2/alerts" || req.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("got %s %s of %s", req.Method, req.URL.Path, req.Header.Get("Content-Type"))
	}
	p := post{at: time.Now(), raw: raw, header: req.Header}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p.alerts); err != nil {
		r.t.Errorf("not what Alertmanager takes: %v\n%s", err, raw)
	}
	r.mu.Lock()
	r.accepted = append(r.accepted, p)
	r.mu.Unlock()
	w.WriteHeader(status)
}

// answer sets the status of answers to come; 0 takes the receiver off the network.
func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// hold keeps every POST to come waiting for its answer until release is called.
func (r *receiver) hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held = held
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(held)
		r.held = nil
	}
}

// took is what was accepted until now, when nothing is under way.
func (r *receiver) took() []post {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]post(nil), r.accepted...)
}

func (r *receiver) attempts() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.tried...)
}

// told lists, in order, what the receiver was told of one alert: "firing" or
// "resolved", as Alertmanager sees it, by when it ends.
func (r *receiver) told(name string) (list []string) {
	for _, p := range r.took() {
		for _, a := range p.alerts {
			if a.Labels["alertname"] != name {
				continue
			}
			if a.EndsAt.After(p.at) {
				list = append(list, "firing")
			} else {
				list = append(list, "resolved")
			}
		}
	}
	return list
}

// teller is a Notifier at work.
type teller struct {
	t     *testing.T
	cfg   Config
	logs  *bytes.Buffer // read when nothing is under way
	stop  func()        // ends it
	count map[string]int
}

// tells starts a Notifier on a book.
func tells(t *testing.T, w *Webhook, book Book, change func(*Config)) *teller {
	n := &teller{t: t, logs: &bytes.Buffer{}, count: map[string]int{}}
	n.cfg = Config{
		Webhook: w, Book: book, Repeat: DefaultRepeat, GeneratorURL: "http://n1:7080/",
		Logger: hclog.New(&hclog.LoggerOptions{Output: n.logs}),
		Count:  func(result string) { n.count[result]++ },
	}
	if change != nil {
		change(&n.cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Run(ctx, n.cfg)
	}()
	n.stop = func() {
		cancel()
		<-done
		w.Close()
	}
	return n
}

// logged counts log lines that hold a text.
func (n *teller) logged(text string) (lines int) {
	synctest.Wait()
	for line := range bytes.Lines(n.logs.Bytes()) {
		if bytes.Contains(line, []byte(text)) {
			lines++
		}
	}
	return lines
}
