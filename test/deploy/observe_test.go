package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// observing makes the one catalog that all tests look at.
var observing struct {
	once    sync.Once
	catalog *catalog
}

// observe runs a real cluster through what the metrics are about, once, and
// returns everything that its processes showed.
func observe(t *testing.T) *catalog {
	t.Helper()
	observing.once.Do(func() { observing.catalog = live(t) })
	if observing.catalog == nil {
		t.Fatal("the cluster did not come to its end in the test that ran it")
	}
	return observing.catalog
}

// live is the life of the cluster: commits, aborts of several kinds, a
// participant that dies, a leader that dies, and all of them back again.
func live(t *testing.T) *catalog {
	w, c := newWorld(t), newCatalog()
	for range 5 {
		w.submit(pb.Outcome_COMMIT, `{"op":"add","key":"k","delta":1}`, partyNames...)
	}
	w.submit(pb.Outcome_ABORT, `{"op":"add","key":"k","delta":-100,"min":0}`, "seats", "payments")
	if _, err := w.client.Abort(within(t, w.patience()), &pb.AbortRequest{Id: idMark + "-refused"}); err != nil {
		t.Fatal(err)
	}
	w.contend(4)
	w.checkKinds()
	if err := w.parties["profiles"].Kill(); err != nil {
		t.Fatal(err)
	}
	w.submitWithin(2*time.Second, pb.Outcome_ABORT, `{"op":"add","key":"k","delta":1}`, "seats", "profiles")
	w.eventually("the leader shows that profiles does not answer", func() bool {
		return w.sum("concordat_participant_reachable", "participant=profiles") == 0 &&
			w.sum("concordat_participant_reachable", "participant=seats") == 1
	})
	w.scrapeAll(c)
	w.checkFirstLeader()
	w.checkNative()

	leader, err := w.AwaitLeader(within(t, w.patience()))
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	w.submit(pb.Outcome_COMMIT, `{"op":"add","key":"k","delta":1}`, "seats", "payments")
	w.eventually("one node shows that it leads", func() bool { return w.sum("concordat_leader") == 1 })
	if n := w.sum("concordat_leader_changes_total"); n < 4 { // two nodes saw both leaders
		t.Errorf("leader changes after a failover: %v", n)
	}
	for _, p := range []interface{ Start() error }{leader, w.parties["profiles"]} {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("every process serves metrics again", func() bool {
		return len(w.scrapes()) == len(w.Nodes)+len(w.parties)
	})
	w.submit(pb.Outcome_COMMIT, `{"op":"add","key":"k","delta":1}`, partyNames...)
	w.scrapeAll(c)
	return c
}

// checkFirstLeader: the numbers are those of what was done.
func (w *world) checkFirstLeader() {
	w.t.Helper()
	atLeast := func(name string, want float64, labels ...string) {
		w.t.Helper()
		if got := w.sum(name, labels...); got < want {
			w.t.Errorf("%s%v is %v, want at least %v", name, labels, got, want)
		}
	}
	decided := w.sum("concordat_transactions_total")
	atLeast("concordat_transactions_total", 5, "outcome=COMMIT", "reason=")
	atLeast("concordat_transactions_total", 1, "outcome=ABORT", "reason=CONDITION")
	atLeast("concordat_transactions_total", 1, "outcome=ABORT", "reason=TIMEOUT")
	atLeast("concordat_transaction_duration_seconds", decided)
	for _, phase := range []string{"begin", "prepare", "decide"} {
		if got := w.sum("concordat_phase_duration_seconds", "phase="+phase); got != decided {
			w.t.Errorf("%v transactions ended phase %s, %v were decided", got, phase, decided)
		}
	}
	atLeast("concordat_phase_duration_seconds", decided-1, "phase=complete")
	atLeast("concordat_branch_retries_total", 1, "participant=profiles", "op=prepare")
	atLeast("concordat_participant_undelivered", 1, "participant=profiles")
	atLeast("concordat_raft_apply_seconds", 10)
	atLeast("concordat_raft_log_sync_seconds", 30)
	atLeast("concordat_lock_wait_seconds", 1)
	atLeast("concordat_kv_sync_seconds", 10)
	atLeast("concordat_participant_prepare_seconds", 10)
	atLeast("concordat_raft_peer_contact_seconds", 1e-9)
	atLeast("concordat_grpc_calls_total", 10, "method=/concordat.v1.Participant/Prepare", "code=OK")
	atLeast("concordat_raft_log_bytes", 3*4096)
	if n := w.sum("concordat_leader"); n != 1 {
		w.t.Errorf("%v leaders", n)
	}
	if n := w.sum("concordat_registry_participants", "state=active"); n != float64(len(w.Nodes)*len(w.parties)) {
		w.t.Errorf("%v registered participants on three nodes", n)
	}
}

// scrapes are the metrics of every process that answers, by its name.
func (w *world) scrapes() map[string]map[string]*dto.MetricFamily {
	all := map[string]map[string]*dto.MetricFamily{}
	for name, address := range w.targets() {
		ctx, cancel := context.WithTimeout(context.Background(), w.patience())
		if families, err := scrape(ctx, address); err == nil {
			all[name] = families
		}
		cancel()
	}
	return all
}

// sum adds up the samples with these labels over every process that answers.
func (w *world) sum(name string, labels ...string) (sum float64) {
	for _, families := range w.scrapes() {
		sum += value(families, name, labels...)
	}
	return sum
}

func (w *world) targets() map[string]string {
	targets := map[string]string{}
	for _, n := range w.Nodes {
		targets[n.ID] = n.HTTP
	}
	for name, p := range w.parties {
		targets[name] = p.metrics
	}
	return targets
}

// scrapeAll reads every process that runs, as prometheus.yml would.
func (w *world) scrapeAll(c *catalog) {
	w.t.Helper()
	cfg := readPrometheus(w.t)
	running := 0
	for name, address := range w.targets() {
		if p := w.parties[name]; p != nil && !p.Running() {
			continue
		}
		running++
		job, labels, ok := cfg.target(w.scrapedAs(name))
		if !ok {
			w.t.Fatalf("prometheus.yml has no target for %s", name)
		}
		if err := c.scrape(within(w.t, w.patience()), address, strings.TrimPrefix(job, "concordat-"), labels); err != nil {
			w.t.Error(err)
		}
	}
	if running < 5 {
		w.t.Errorf("only %d processes were scraped", running)
	}
}

// scrapedAs is the target of prometheus.yml that stands for a process: it has the
// KV participants of compose.yaml, and others are scraped as they are.
func (w *world) scrapedAs(name string) string {
	switch name {
	case onPostgres, onMariaDB, overHTTP:
		return partyNames[0]
	}
	return name
}

// bound is how many values each label of ours may have in this cluster. A new
// label is entered here by somebody who has thought of what bounds it.
var bound = map[string]int{
	"participant": 6, "peer": 3, "node_id": 3, "cluster_id": 1, // the registry and the members
	"version": 1, "go": 1,
	"outcome": 2, "reason": 16, "vote": 4, "op": 5, "phase": 4, "answer": 6, "settled": 6, "decision": 3, "step": 5,
	"kind": 12, "state": 3, "role": 4, "whose": 4, // enumerations of ours
	"result": 4, "method": 40, "code": 17, // registered methods and gRPC's codes
}

// unbounded lists labels of our metrics that could grow without end.
func unbounded(c *catalog) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(c.metrics)) {
		m := c.metrics[name]
		if !strings.HasPrefix(name, "concordat_") {
			continue
		}
		for _, label := range slices.Sorted(maps.Keys(m.own)) {
			values := m.labels[label]
			switch limit, known := bound[label]; {
			case !known:
				found = append(found, name+": nobody has said what bounds label "+label)
			case len(values) > limit:
				found = append(found, name+": too many values of label "+label)
			}
			for v := range values {
				if strings.Contains(v, idMark) {
					found = append(found, name+": the id of a transaction in label "+label)
					break
				}
			}
		}
	}
	return found
}

func TestLabelsAreBounded(t *testing.T) {
	c := observe(t)
	for _, what := range unbounded(c) {
		t.Error(what)
	}
	for name, m := range c.metrics {
		if m.series > 200 {
			t.Errorf("%s has %d series in one process", name, m.series)
		}
	}
}

func TestUnboundedLabelsAreFound(t *testing.T) {
	tests := map[string]struct {
		label  string
		values []string
		want   int
	}{
		"bounded":   {"phase", []string{"begin", "decide"}, 0},
		"an id":     {"op", []string{idMark + "-1"}, 1},
		"unknown":   {"txn", []string{"x"}, 1},
		"many":      {"outcome", []string{"1", "2", "3"}, 1},
		"both ways": {"txn", []string{idMark}, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCatalog()
			m := c.family("concordat_x", "gauge", "")
			m.own[test.label] = true
			for _, v := range test.values {
				m.note(test.label, v)
			}
			if got := unbounded(c); len(got) != test.want {
				t.Errorf("found %q, want %d", got, test.want)
			}
		})
	}
}
