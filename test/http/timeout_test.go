package http

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

const heldSubmit = `{"id": "held", "timeout": "60s", "branches": [{"participant": "slow", "payload": {"ops": [{"op": "put", "key": "k", "value": 1}]}}]}`

// A client's timeout ends its wait, in either form of the header and at any
// node; the transaction goes on, and the same request learns its outcome.
func TestTimeoutIsCarriedThrough(t *testing.T) {
	w := newWorld(t, "slow")
	release := w.holds.hold("slow")
	defer release()
	for name, h := range map[string]http.Header{"own": {"Request-Timeout": {"200ms"}}, "gRPC's": {"Grpc-Timeout": {"200m"}}} {
		for i := range w.nodes {
			started := time.Now()
			r := w.send(i, http.MethodPost, "/v1/transactions", h, heldSubmit)
			took, e := time.Since(started), r.failure(t)
			if r.status != http.StatusGatewayTimeout || e.Code != "DEADLINE_EXCEEDED" || e.Details["txn"] != "held" || !strings.Contains(e.Message, "200ms") {
				t.Errorf("%s at node %d: %d %s", name, i, r.status, r.body)
			}
			if took < 100*time.Millisecond || took > 10*time.Second {
				t.Errorf("%s at node %d took %s", name, i, took)
			}
		}
	}
	if r := w.send(w.follower(), http.MethodGet, "/v1/transactions/held", nil, ""); r.json(t)["state"] != "STATE_PREPARING" {
		t.Errorf("it does not go on: %s", r.body)
	}
	// An id that the gateway made comes back with the error, and with since: both settle it.
	r := w.send(w.follower(), http.MethodPost, "/v1/transactions", http.Header{"Request-Timeout": {"200ms"}}, strings.Replace(heldSubmit, `"id": "held", `, "", 1))
	made := r.failure(t).Details
	if r.status != http.StatusGatewayTimeout || fsm.CheckID("id", made["txn"]) != nil || made["since"] == "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	release()
	w.send(w.follower(), http.MethodPost, "/v1/transactions", nil, heldSubmit).expect(t, http.StatusOK, `"outcome":"COMMIT"`)
	w.send(w.follower(), http.MethodPost, "/v1/transactions", nil,
		`{"id": "`+made["txn"]+`", "since": "`+made["since"]+`", `+strings.TrimPrefix(heldSubmit, `{"id": "held", `)).expect(t, http.StatusOK, `"id":"`+made["txn"]+`"`)
}

// A stream ends when its reader said it would, and says so; without a timeout it goes on.
func TestTimeoutOfAWatch(t *testing.T) {
	w := newWorld(t)
	r := w.send(0, http.MethodGet, "/v1/transactions:watch", http.Header{"Request-Timeout": {"1500ms"}}, "")
	r.expect(t, http.StatusOK, "event: bookmark\n", "event: error\n", `"code":"DEADLINE_EXCEEDED"`)
	r = w.send(0, http.MethodGet, "/v1/transactions:watch?resume=1000000", http.Header{"Request-Timeout": {"100ms"}}, "")
	if e := r.failure(t); r.status != http.StatusGatewayTimeout || e.Code != "DEADLINE_EXCEEDED" {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

// The prepare budget is of the transaction, not of the wait: when it ends, the answer is an abort.
func TestBudgetEnds(t *testing.T) {
	w := newWorld(t, "slow")
	release := w.holds.hold("slow")
	defer release()
	r := w.send(w.follower(), http.MethodPost, "/v1/transactions", nil, strings.Replace(heldSubmit, "60s", "200ms", 1))
	r.expect(t, http.StatusOK, `"outcome":"ABORT"`, `"code":"TIMEOUT"`)
}

// A client that leaves ends its wait in the node: the calls behind it end, and
// nothing is logged. The transaction goes on.
func TestClientThatLeaves(t *testing.T) {
	w := newWorld(t, "slow")
	release := w.holds.hold("slow")
	defer release()
	i := w.follower()
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan response)
	go func() { done <- w.sendWith(ctx, i, http.MethodPost, "/v1/transactions", nil, heldSubmit) }()
	w.eventually("the participant is asked", func() bool { return w.holds.count("slow") > 0 })
	before := w.logs.String()
	leave()
	if r := <-done; r.err == nil {
		t.Fatalf("answered %d %s", r.status, r.body)
	}
	ended := regexp.MustCompile(`concordat_grpc_calls_total\{code="(Canceled|Unknown)",method="/concordat.v1.Coordinator/Submit"\} 1`)
	for _, n := range []int{i, w.leader()} {
		w.eventually("the call has ended, at the leader as well", func() bool {
			return ended.MatchString(w.send(n, http.MethodGet, "/metrics", nil, "").body)
		})
	}
	if said := strings.TrimPrefix(w.logs.String(), before); strings.Contains(said, "[WARN]") || strings.Contains(said, "[ERROR]") {
		t.Errorf("somebody who left is logged: %s", said)
	}
	release()
	w.send(i, http.MethodPost, "/v1/transactions", nil, heldSubmit).expect(t, http.StatusOK, `"outcome":"COMMIT"`)
}
