package http

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A transaction's life over HTTP, at the leader and at a follower, which
// forwards: every exchange is held against the OpenAPI document as well.
func TestSubmitGetAbort(t *testing.T) {
	w := newWorld(t, "seats", "payments")
	for name, i := range map[string]int{"leader": w.leader(), "follower": w.follower()} {
		t.Run(name, func(t *testing.T) {
			r := w.send(i, http.MethodPost, "/v1/transactions", nil, fmt.Sprintf(`{"id": "booking-%[1]s", "wait": "COMPLETED", "timeout": "5s", "branches": [
				{"participant": "seats", "payload": {"ops": [{"op": "put", "key": "%[1]s", "value": 2}, {"op": "get", "key": "%[1]s"}]}},
				{"participant": "payments", "payload": {"ops": [{"op": "put", "key": "%[1]s", "value": "paid"}]}}]}`, name))
			r.expect(t, http.StatusOK, `"outcome":"COMMIT"`, `"state":"STATE_COMMITTED"`, `"result":{"results":[`, `"pending":[]`)
			again := w.send((i+1)%3, http.MethodGet, "/v1/transactions/booking-"+name, nil, "")
			again.expect(t, http.StatusOK, `"outcome":"COMMIT"`, `"id":"booking-`+name+`"`)
			w.eventually("the node's own copy has it", func() bool {
				r := w.send(i, http.MethodGet, "/v1/transactions/booking-"+name+"?stale=true", nil, "")
				return r.status == http.StatusOK && strings.Contains(r.body, `"outcome":"COMMIT"`)
			})
			// The first outcome stands.
			w.send(i, http.MethodPost, "/v1/transactions/booking-"+name+":abort", nil, `{"message": "too late"}`).expect(t, http.StatusOK, `"outcome":"COMMIT"`)
		})
	}
	i := w.follower()
	// An abort is an answer.
	r := w.send(i, http.MethodPost, "/v1/transactions", nil,
		`{"id": "full", "branches": [{"participant": "seats", "payload": {"ops": [{"op": "add", "key": "none", "delta": -1, "min": 0}]}}]}`)
	r.expect(t, http.StatusOK, `"outcome":"ABORT"`, `"code":"CONDITION"`, `"participant":"seats"`)
	r = w.send(i, http.MethodPost, "/v1/transactions/never:abort", nil, "")
	r.expect(t, http.StatusOK, `"outcome":"ABORT"`)
	r = w.send(i, http.MethodPost, "/v1/transactions", nil, `{"id": "never", "branches": [{"participant": "seats", "payload": {"ops": [{"op": "get", "key": "a"}]}}]}`)
	r.expect(t, http.StatusOK, `"outcome":"ABORT"`)
	// Without an id the node makes one, which can be asked for.
	r = w.send(i, http.MethodPost, "/v1/transactions", nil, `{"branches": [{"participant": "seats", "payload": {"ops": [{"op": "get", "key": "leader"}]}}]}`)
	id, _ := r.json(t)["id"].(string)
	w.send(w.leader(), http.MethodGet, "/v1/transactions/"+id, nil, "").expect(t, http.StatusOK, `"id":"`+id+`"`)
}

// expect checks a status and what the body holds.
func (r response) expect(t testing.TB, status int, parts ...string) {
	t.Helper()
	if r.err != nil || r.status != status {
		t.Fatalf("got %d, want %d: %s, %v", r.status, status, r.body, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.body, part) {
			t.Errorf("got %s, which does not have %s", r.body, part)
		}
	}
}

// The operators' routes.
func TestOperatorsRoutes(t *testing.T) {
	w := newWorld(t, "seats", "spare")
	leader, i := w.leader(), w.follower()
	w.send(i, http.MethodGet, "/v1/cluster", nil, "").expect(t, http.StatusOK, `"role":"Follower"`, `"voter":true`)
	w.send(leader, http.MethodGet, "/v1/cluster", nil, "").expect(t, http.StatusOK, `"role":"Leader"`, `"ready":true`)
	w.send(i, http.MethodGet, "/v1/participants", nil, "").expect(t, http.StatusOK, `"name":"seats"`, `"state":"active"`, `"reachable":true`)
	w.send(i, http.MethodGet, "/v1/alerts", nil, "").expect(t, http.StatusOK, `"alerts":[]`)
	w.send(i, http.MethodGet, "/v1/alerts?local=true", nil, "").expect(t, http.StatusOK, `"alerts":[]`)
	w.send(i, http.MethodPost, "/v1/participants/seats:retry", nil, "").expect(t, http.StatusOK, `"transactions":0`)
	w.send(i, http.MethodPost, "/v1/participants/nobody:retry", nil, "{}").expect(t, http.StatusConflict, `"PARTICIPANT_UNKNOWN"`)
	w.send(i, http.MethodPost, "/v1/transactions/nothing:retry", nil, "").expect(t, http.StatusNotFound)
	w.send(i, http.MethodPost, "/v1/transactions/nothing:resolve", nil, `{"acknowledge": true}`).expect(t, http.StatusNotFound)
	w.send(i, http.MethodDelete, "/v1/participants/spare?operator=ann", nil, "").expect(t, http.StatusOK, `"state":"removed"`)
	r := w.send(i, http.MethodPost, "/v1/transactions", nil, `{"id": "to-spare", "branches": [{"participant": "spare", "payload": {"ops": [{"op": "get", "key": "a"}]}}]}`)
	if e := r.failure(t); r.status != http.StatusConflict || e.Details["participant"] != "spare" {
		t.Errorf("a removed participant: %d %s", r.status, r.body)
	}
	to := w.nodes[(leader+1)%3]
	// The answer is lost if who was asked to forward sees the new leader first; so it is repeated, with from.
	w.eventually("the other one has announced itself and takes the leadership", func() bool {
		r = w.send((leader+2)%3, http.MethodPost, "/v1/cluster:transfer", nil, fmt.Sprintf(`{"node": "n%d", "from": "n%d"}`, (leader+1)%3+1, leader+1))
		return r.status != http.StatusServiceUnavailable
	})
	r.expect(t, http.StatusOK, fmt.Sprintf(`"former":"n%d"`, leader+1), fmt.Sprintf(`"leader":"n%d"`, (leader+1)%3+1))
	w.eventually("the other one leads", to.Leads)
}

// Pages that are not of the interface itself.
func TestPages(t *testing.T) {
	w := newWorld(t)
	for path, part := range map[string]string{
		"/": "/v1/transactions/{id}:abort", "/healthz": "ok", "/readyz": "ok: ", "/metrics": "concordat_", "/openapi.json": `"openapi": "3.`,
	} {
		w.send(0, http.MethodGet, path, nil, "").expect(t, http.StatusOK, part)
		w.send(0, http.MethodHead, path, nil, "").expect(t, http.StatusOK)
		r := w.send(0, http.MethodPost, path, nil, "{}")
		if r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") == "" || r.failure(t).Code != "UNIMPLEMENTED" {
			t.Errorf("POST %s: %d %v %s", path, r.status, r.header, r.body)
		}
	}
}

// Integers are never turned into floats, in either direction.
func TestIntegersStayWhole(t *testing.T) {
	w := newWorld(t, "numbers")
	for _, n := range []string{"9223372036854775807", "-9223372036854775808", "9007199254740993", "0", "-1"} {
		r := w.send(w.follower(), http.MethodPost, "/v1/transactions", nil,
			`{"wait": "COMPLETED", "branches": [{"participant": "numbers", "payload": {"ops": [{"op": "put", "key": "n", "value": `+n+`}, {"op": "put", "key": "list", "value": [`+n+`, "a"]}]}}]}`)
		r.expect(t, http.StatusOK, `"outcome":"COMMIT"`)
		r = w.send(w.follower(), http.MethodPost, "/v1/transactions", nil,
			`{"wait": "COMPLETED", "branches": [{"participant": "numbers", "payload": {"ops": [{"op": "check", "key": "n", "equals": `+n+`}, {"op": "get", "key": "n"}, {"op": "get", "key": "list"}]}}]}`)
		r.expect(t, http.StatusOK, `"outcome":"COMMIT"`, `"value":`+n+`}`, `[`+n+`,"a"]`)
	}
	// One too many is refused with the field and the limit; a float is no integer.
	for _, n := range []string{"9223372036854775808", "1.0", "1e3", "-0.5", "1e400"} {
		r := w.send(0, http.MethodPost, "/v1/transactions", nil,
			`{"branches": [{"participant": "numbers", "payload": {"ops": [{"op": "put", "key": "n", "value": `+n+`}]}}]}`)
		if e := r.failure(t); r.status != http.StatusBadRequest || !strings.HasPrefix(e.Details["field"], "branches[0].payload") || !strings.Contains(e.Details["limit"], "9223372036854775807") {
			t.Errorf("%s: %d %s", n, r.status, r.body)
		}
	}
	// 64-bit fields of the protos are taken as numbers and as strings, to the last digit, and shown as strings.
	for _, since := range []string{"18446744073709551615", `"18446744073709551615"`} {
		r := w.send(0, http.MethodPost, "/v1/transactions", nil,
			`{"since": `+since+`, "branches": [{"participant": "numbers", "payload": {"ops": [{"op": "get", "key": "n"}]}}]}`)
		r.expect(t, http.StatusOK, `"index":"`)
	}
}
