package http

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func (w *world) commit(i int, id, participant string) {
	w.t.Helper()
	w.send(i, http.MethodPost, "/v1/transactions", nil, fmt.Sprintf(
		`{"id": %q, "wait": "COMPLETED", "branches": [{"participant": %q, "payload": {"ops": [{"op": "add", "key": "n", "delta": 1}]}}]}`, id, participant,
	)).expect(w.t, http.StatusOK, `"outcome":"COMMIT"`)
}

// The events of all, of one, and by state and participant; what was there
// before; and where a reader goes on that was away.
func TestWatch(t *testing.T) {
	w := newWorld(t, "seats", "payments")
	i := w.follower()
	release := w.holds.hold("payments")
	defer release()
	w.send(i, http.MethodPost, "/v1/transactions", http.Header{"Request-Timeout": {"50ms"}},
		`{"id": "held", "timeout": "60s", "branches": [{"participant": "payments", "payload": {"ops": [{"op": "get", "key": "n"}]}}]}`).expect(t, http.StatusGatewayTimeout)
	w.eventually("the node has it", func() bool {
		return w.send(i, http.MethodGet, "/v1/transactions/held?stale=true", nil, "").status == http.StatusOK
	})
	all, one := w.watch(i, ""), w.watch(w.leader(), "?id=b")
	there := w.watch(i, "?existing=true")
	ends := w.watch(i, "?state=committed&state=aborted&participant=seats")
	w.commit(i, "a", "seats")
	w.commit(i, "b", "seats")
	w.send(i, http.MethodPost, "/v1/transactions/c:abort", nil, "").expect(t, http.StatusOK)
	release()
	w.send(i, http.MethodPost, "/v1/transactions", nil, `{"id": "d", "branches": [
		{"participant": "seats", "payload": {"ops": [{"op": "add", "key": "n", "delta": 1}]}},
		{"participant": "payments", "payload": {"ops": [{"op": "add", "key": "n", "delta": 1}]}}]}`).expect(t, http.StatusOK, `"outcome":"COMMIT"`)
	// One branch commits in one phase, which has no COMMITTING.
	changes := func(id string) []string { return []string{id + " PREPARING", id + " COMMITTED"} }
	everything := append(append(append(changes("a"), changes("b")...), changes("d")...), "c ABORTED", "d COMMITTING", "held COMMITTED")
	for name, x := range map[string]struct {
		e          *events
		want, here []string
	}{
		"all": {all, everything, nil}, "one": {one, changes("b"), nil}, "what is there": {there, everything, []string{"held PREPARING"}},
		"ends": {ends, []string{"a COMMITTED", "b COMMITTED", "d COMMITTED"}, nil},
	} {
		w.eventually(name+": the events are there", func() bool { return len(x.e.lines("changed")) >= len(x.want) })
		got := x.e.lines("changed")
		// A Finish rides along with whatever comes next, so "b COMMITTED" and "c ABORTED" may change places.
		slices.Sort(got)
		want := slices.Sorted(slices.Values(x.want))
		if !slices.Equal(got, want) || !slices.Equal(x.e.lines("existing"), x.here) {
			t.Errorf("%s: %v and %v, want %v and %v", name, got, x.e.lines("existing"), want, x.here)
		}
		for _, one := range x.e.of("changed") {
			if one.ID == "" || one.ID != one.Data.Token || !strings.EqualFold(one.Event, one.Data.Kind) {
				t.Errorf("%s: %s", name, one.raw)
			}
		}
	}
	w.eventually("bookmarks come while nothing happens", func() bool { return len(one.of("bookmark")) > 2 })
	w.readersGoOn(t, all)
}

// readersGoOn: from any event on, at any node, by the header and by the
// parameter, the rest comes, and the header goes first.
func (w *world) readersGoOn(t *testing.T, all *events) {
	t.Helper()
	seen := all.of("changed")
	for k, one := range seen {
		for how, e := range map[string]*events{
			"header": {last: one.ID, query: ""}, "parameter": {query: "?resume=" + one.ID}, "both": {last: one.ID, query: "?resume=" + seen[0].ID},
		} {
			e.client, e.nodes = w.http, []string{w.nodes[k%3].HTTPAddress()}
			first := e.last
			e.last = ""
			if first != "" {
				e.last = first
			}
			w.follow(e)
			want := all.lines("changed")[k+1:]
			w.eventually("the rest has come", func() bool { return len(e.lines("changed")) >= len(want) && len(e.of("bookmark")) > 0 })
			if got := e.lines("changed"); !slices.Equal(got, want) {
				t.Errorf("%s, behind %s: %v, want %v", how, one.ID, got, want)
			}
		}
	}
}

// A stream that was refused is an error like any other, and a node serves a bounded number.
func TestWatchRefuses(t *testing.T) {
	w := newWorld(t)
	for query, field := range map[string]string{
		"?id=a/b": "id", "?state=x": "state", "?participant=A": "participant", "?resume=1-": "resume", "?resume=1&existing=true": "existing", "?existing=1": "existing",
	} {
		r := w.send(0, http.MethodGet, "/v1/transactions:watch"+query, nil, "")
		if e := r.failure(t); r.status != http.StatusBadRequest || e.Details["field"] != field {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
	var open []*http.Response
	defer func() {
		for _, resp := range open {
			resp.Body.Close()
		}
	}()
	for {
		resp, err := w.http.Get("http://" + w.nodes[0].HTTPAddress() + "/v1/transactions:watch")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
		if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
			break
		}
		if resp.StatusCode != http.StatusOK || len(open) > 200 {
			t.Fatalf("stream %d: %d", len(open), resp.StatusCode)
		}
	}
	// Readers that left are missed by nobody.
	for _, resp := range open {
		resp.Body.Close()
	}
	w.eventually("there is room again", func() bool {
		resp, err := w.http.Get("http://" + w.nodes[0].HTTPAddress() + "/v1/transactions:watch")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// A node that shuts down says so to its readers, at once.
func TestWatchEndsWithItsNode(t *testing.T) {
	w := newWorld(t)
	i := w.follower()
	e := w.watch(i, "")
	started := time.Now()
	if err := w.nodes[i].Close(); err != nil {
		t.Fatal(err)
	}
	w.eventually("the reader is told", func() bool { return len(e.of("error")) == 1 })
	if one := e.of("error")[0]; one.Data.Error.Details["reason"] != "SHUTTING_DOWN" || one.ID != "" {
		t.Errorf("got %s", one.raw)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("the end took %s", took)
	}
}
