package participant

import (
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// The kinds of alerts: the label of the gauge.
const (
	alertInDoubt    = "in_doubt"   // prepared longer than AlertAfter
	alertSettle     = "settle"     // decided, and the resource manager fails longer than AlertAfter
	alertForgotten  = "forgotten"  // prepared, and the cluster has forgotten the transaction
	alertMismatch   = "mismatch"   // prepared, and the cluster knows other content
	alertGeneration = "generation" // prepared under an older generation of the cluster
)

var alertKinds = []string{alertInDoubt, alertSettle, alertForgotten, alertMismatch, alertGeneration}

// alerts are what an operator must see to: one ERROR line when it begins, one
// INFO line when it is over, a gauge in between.
type alerts struct {
	log   hclog.Logger
	gauge *prometheus.GaugeVec

	mu     sync.Mutex // guards active
	active map[alertKey]bool
}

type alertKey struct{ kind, txn string }

func newAlerts(log hclog.Logger, gauge *prometheus.GaugeVec) *alerts {
	for _, kind := range alertKinds {
		gauge.WithLabelValues(kind).Set(0)
	}
	return &alerts{log: log, gauge: gauge, active: make(map[alertKey]bool)}
}

// raise tells an operator once until it is resolved.
func (a *alerts) raise(kind string, ref Ref, message string, args ...any) {
	if a.set(alertKey{kind, ref.ID}, true) {
		a.log.Error(message, append([]any{"alert", kind, "txn", ref.ID, "attempt", ref.Attempt}, args...)...)
	}
}

// resolve says that it is over, if it was raised.
func (a *alerts) resolve(kind string, ref Ref) {
	if a.set(alertKey{kind, ref.ID}, false) {
		a.log.Info("the alert is resolved", "alert", kind, "txn", ref.ID, "attempt", ref.Attempt)
	}
}

// resolveBranch ends what was raised about a branch because it was prepared.
func (a *alerts) resolveBranch(ref Ref) {
	for _, kind := range []string{alertInDoubt, alertForgotten, alertMismatch, alertGeneration} {
		a.resolve(kind, ref)
	}
}

// set reports whether it changed anything.
func (a *alerts) set(key alertKey, active bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active[key] == active {
		return false
	}
	if active {
		a.active[key] = true
		a.gauge.WithLabelValues(key.kind).Inc()
	} else {
		delete(a.active, key)
		a.gauge.WithLabelValues(key.kind).Dec()
	}
	return true
}
