package inprocess

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// told is one alert as a POST told it.
type told struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
	at           time.Time
}

func (a told) firing() bool { return a.EndsAt.After(a.at) }

// fingerprint names an alert as Alertmanager does: by its labels.
func (a told) fingerprint() string {
	var list []string
	for k, v := range a.Labels {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// receiver takes alerts as Alertmanager does and keeps them in order.
type receiver struct {
	t      testing.TB
	server *httptest.Server

	mu    sync.Mutex // guards what follows
	down  bool
	tried int
	list  []told
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) url() string { return r.server.URL + "/api/v2/alerts" }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	if r.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	var list []told
	dec := json.NewDecoder(req.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil || req.Method != http.MethodPost || req.URL.Path != "/api/v2/alerts" {
		r.t.Errorf("%s %s is not what Alertmanager takes: %v", req.Method, req.URL, err)
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	for _, a := range list {
		if a.EndsAt.Before(a.StartsAt) {
			r.t.Errorf("told of %v from %s to %s, which Alertmanager refuses", a.Labels, a.StartsAt, a.EndsAt)
		}
		a.at = time.Now()
		r.list = append(r.list, a)
	}
}

// set takes the receiver down or up.
func (r *receiver) set(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *receiver) attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried
}

// of is what was told of a kind about a participant.
func (r *receiver) of(kind, participant string) (list []told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.list {
		if a.Labels["kind"] == kind && a.Labels["participant"] == participant {
			list = append(list, a)
		}
	}
	return list
}

// story is of in words.
func (r *receiver) story(kind, participant string) (list []string) {
	for _, a := range r.of(kind, participant) {
		list = append(list, map[bool]string{true: "firing", false: "resolved"}[a.firing()])
	}
	return list
}

// hears waits until a story is just so.
func (w *world) hears(r *receiver, kind, participant string, want ...string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("the receiver is told of %s %s: %v", kind, participant, want), func() bool {
		got := r.story(kind, participant)
		if len(got) > len(want) || !slices.Equal(got, want[:min(len(got), len(want))]) {
			w.t.Fatalf("the receiver was told of %s %s: %v, want %v", kind, participant, got, want)
		}
		return len(got) == len(want)
	})
}

// wantOne checks that everything told of a kind is one alert that stood once.
func (r *receiver) wantOne(kind, participant string) told {
	r.t.Helper()
	list := r.of(kind, participant)
	for _, a := range list {
		if a.fingerprint() != list[0].fingerprint() || !a.StartsAt.Equal(list[0].StartsAt) {
			r.t.Errorf("%s since %s and %s since %s", list[0].fingerprint(), list[0].StartsAt, a.fingerprint(), a.StartsAt)
		}
	}
	return list[0]
}
