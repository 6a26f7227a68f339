package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// alerts are what an operator must know of, each raised once, as an ERROR line
// and a metric, and resolved once.
type alerts struct {
	log    hclog.Logger
	active *prometheus.GaugeVec // by kind

	mu     sync.Mutex
	raised map[alertKey]time.Time
}

// alertKey names an alert: what is wrong, and with whom.
type alertKey struct{ kind, subject string }

// Kinds of alerts.
const (
	// alertUndelivered: a participant has not applied decisions for alert_after.
	alertUndelivered = "undelivered"
	// alertPreparing: a transaction has not been decided for alert_after.
	alertPreparing = "preparing"
	// alertOperator: heuristic or given-up branches wait for a person.
	alertOperator = "needs_operator"
	// alertDisk: the disk reserve is reached.
	alertDisk = "disk_reserve"
)

func newAlerts(log hclog.Logger, active *prometheus.GaugeVec) *alerts {
	return &alerts{log: log, active: active, raised: map[alertKey]time.Time{}}
}

// set raises every alert of a kind that is in now and resolves those that are
// not. The text tells what is wrong and what to do.
func (a *alerts) set(kind string, now map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, subject := range slices.Sorted(maps.Keys(now)) {
		key := alertKey{kind, subject}
		if _, ok := a.raised[key]; ok {
			continue
		}
		a.raised[key] = time.Now()
		a.active.WithLabelValues(kind).Inc()
		a.log.Error("ALERT "+now[subject], "alert", kind, "subject", subject)
	}
	for key, since := range a.raised {
		if _, still := now[key.subject]; key.kind != kind || still {
			continue
		}
		delete(a.raised, key)
		a.active.WithLabelValues(kind).Dec()
		a.log.Info("RESOLVED", "alert", kind, "subject", key.subject, "elapsed", time.Since(since).Round(time.Millisecond))
	}
}

// list shows the active alerts in a fixed order.
func (a *alerts) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]string, 0, len(a.raised))
	for key, since := range a.raised {
		list = append(list, fmt.Sprintf("%s %s since %s", key.kind, key.subject, since.UTC().Format(time.RFC3339)))
	}
	slices.Sort(list)
	return list
}
