package http

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// page is one page of a list.
type page struct {
	Transactions []struct {
		ID, State string
	}
	More bool
	Next string
}

// pages reads a list to its end, as a client does, and returns its ids.
func (w *world) pages(t *testing.T, i int, query string) (ids []string, count int) {
	t.Helper()
	for after := ""; ; count++ {
		r := w.send(i, http.MethodGet, "/v1/transactions?"+query+after, nil, "")
		var p page
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", query, r.status, r.body, err)
		}
		for _, x := range p.Transactions {
			ids = append(ids, x.ID)
		}
		if !p.More {
			if p.Next != "" {
				t.Errorf("%s: the last page has a next: %s", query, r.body)
			}
			return ids, count + 1
		}
		after = "&after=" + p.Next
	}
}

// Pages, order and filters of a list.
func TestLists(t *testing.T) {
	w := newWorld(t, "seats", "payments")
	begun := time.Now()
	var all, aborted, atPayments []string
	for _, n := range []int{7, 3, 9, 1, 5, 8, 2} { // not in order of the ids
		id, branch := fmt.Sprintf("t-%d", n), `{"participant": "seats", "payload": {"ops": [{"op": "put", "key": "k", "value": 1}]}}`
		if n%2 == 0 {
			branch = `{"participant": "payments", "payload": {"ops": [{"op": "check", "key": "k", "exists": true}]}}`
			aborted = append(aborted, id)
			atPayments = append(atPayments, id)
		}
		w.send(0, http.MethodPost, "/v1/transactions", nil, `{"id": "`+id+`", "wait": "COMPLETED", "branches": [`+branch+`]}`).expect(t, http.StatusOK)
		all = append(all, id)
	}
	release := w.holds.hold("payments")
	defer release()
	w.send(0, http.MethodPost, "/v1/transactions", http.Header{"Request-Timeout": {"300ms"}},
		`{"id": "held", "timeout": "60s", "branches": [{"participant": "payments", "payload": {"ops": [{"op": "get", "key": "k"}]}}]}`).expect(t, http.StatusGatewayTimeout)
	all, atPayments = append(all, "held"), append(atPayments, "held")
	w.eventually("every node's copy has all of it", func() bool {
		for i := range w.nodes {
			finished, _ := w.pages(t, i, "state=committed&state=aborted")
			unfinished, _ := w.pages(t, i, "state=unfinished")
			if len(finished) != 7 || len(unfinished) != 1 {
				return false
			}
		}
		return true
	})
	sorted, newest := slices.Sorted(slices.Values(all)), slices.Clone(all)
	slices.Reverse(newest)
	age := time.Since(begun)
	for query, want := range map[string][]string{
		"": sorted, "order=id": sorted, "order=oldest": all, "order=newest": newest, "limit=1000": sorted,
		"order=oldest&state=aborted": aborted, "state=preparing": {"held"}, "unfinished=true": {"held"}, "unfinished=false": sorted,
		"order=oldest&participant=payments": atPayments, "participant=nobody": nil, "needs_operator=true": nil, "state=committing": nil,
		"order=newest&state=aborted&participant=payments": {"t-2", "t-8"}, "after=t-7": {"t-8", "t-9"},
		"min_age=1h": nil, "min_age=0s": sorted, "min_age=" + (age + time.Minute).String(): nil,
	} {
		for i := range w.nodes {
			if got, _ := w.pages(t, i, query); !slices.Equal(got, want) {
				t.Errorf("%q at node %d: %v, want %v", query, i, got, want)
			}
		}
		// The same, by pages of each size.
		for size := 1; size <= 3 && !strings.Contains(query, "limit") && !strings.Contains(query, "after"); size++ {
			got, count := w.pages(t, size%3, fmt.Sprintf("%s&limit=%d", query, size))
			if !slices.Equal(got, want) || count > len(want)/size+1 {
				t.Errorf("%q by %d: %d pages, %v, want %v", query, size, count, got, want)
			}
		}
	}
	// Age: what is old enough now was not at its begin.
	w.eventually("all are old enough", func() bool {
		got, _ := w.pages(t, 1, "min_age="+(time.Since(begun)/2).String())
		return len(got) == len(all)
	})
	for query, field := range map[string]string{
		"limit=1001": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=1&limit=2": "limit", "limit=": "limit", "state=open": "state", "state=": "state",
		"order=random": "order", "order=oldest&after=xyz": "after", "participant=A": "participant", "min_age=-1s": "min_age", "min_age=5": "min_age",
		"unfinished=1": "unfinished", "colour=red": "colour", "LIMIT=5": "LIMIT", "states=committed": "states", "%zz=1": "query", "limit=1;order=id": "query",
		"participant=%ff": "participant",
	} {
		r := w.send(1, http.MethodGet, "/v1/transactions?"+query, nil, "")
		if e := r.failure(t); r.status != http.StatusBadRequest || e.Details["field"] != field {
			t.Errorf("%q: %d %s", query, r.status, r.body)
		}
	}
}
