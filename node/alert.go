package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Kinds of alerts. The leader judges all but the last, about participants, and
// keeps them as marks in the log; a node judges the last of itself.
const (
	// alertUndelivered: a participant has not applied decisions for alert_after.
	alertUndelivered = "undelivered"
	// alertPreparing: a participant has not voted for alert_after.
	alertPreparing = "preparing"
	// alertOperator: heuristic or given-up branches wait for a person.
	alertOperator = "needs_operator"
	// alertDisk: the disk reserve is reached.
	alertDisk = "disk_reserve"
)

var alertKinds = []string{alertUndelivered, alertPreparing, alertOperator, alertDisk}

// alertFile is where a node remembers what it told of itself, in its data directory.
const alertFile = "alerts.json"

// alerts are what an operator must know of: each an ERROR line when it begins,
// an INFO line when it is over, a metric in between, and told to the webhook if
// there is one.
type alerts struct {
	log     hclog.Logger
	active  *prometheus.GaugeVec // by kind
	webhook *alerting.Webhook    // nil: nobody is told
	own     *alerting.Local
	source  string
	cluster func() string
}

// newAlerts needs the data directory, which the replica has made and locked.
func newAlerts(n *Node) (*alerts, error) {
	a := &alerts{
		log: n.log, active: n.metrics.alerts, source: alerting.NodeSource(n.cfg.Cluster.NodeID),
		cluster: func() (id string) {
			n.replica.View(func(m *fsm.Machine) { id = m.ClusterID() })
			return id
		},
	}
	if n.cfg.AlertWebhook != "" {
		w, err := alerting.NewWebhook(alertWebhookField, n.cfg.AlertWebhook)
		if err != nil {
			return nil, err
		}
		a.webhook = w
		a.log.Info("alerts are told to a webhook", "webhook", w.String(), "repeat", n.cfg.AlertRepeat)
	}
	a.own = alerting.OpenLocal(alerting.LocalConfig{
		Path: filepath.Join(n.cfg.Cluster.DataDir, alertFile), Tells: a.webhook != nil, Logger: n.log,
	})
	for _, kind := range alertKinds {
		a.active.WithLabelValues(kind).Set(0)
	}
	for _, i := range a.own.Show() {
		if i.Standing() {
			a.stillRaised(i.Alert, i.Kind)
			a.active.WithLabelValues(i.Kind).Inc()
		}
	}
	return a, nil
}

func (a *alerts) close() {
	if a.webhook != nil {
		a.webhook.Close()
	}
}

// notify is the configuration for telling from a book.
func (n *Node) notify(book alerting.Book) alerting.Config {
	return alerting.Config{
		Webhook: n.alerts.webhook, Book: book, Repeat: n.cfg.AlertRepeat, Logger: n.log,
		GeneratorURL: "http://" + n.cfg.Cluster.HTTPAddress + "/",
		Count:        func(result string) { n.metrics.notifications.WithLabelValues(result).Inc() },
	}
}

// raise makes a kind of the node's own alerts stand.
func (a *alerts) raise(kind, subject, summary, action string) {
	alert := alerting.Alert{
		Kind: kind, Severity: pb.Alert_CRITICAL, Source: a.source, Cluster: a.cluster(), Summary: summary, Action: action,
	}
	if a.own.Raise(alert) {
		a.active.WithLabelValues(kind).Inc()
		a.log.Error("ALERT "+alert.Text(), "alert", kind, "subject", subject)
	}
}

// resolve says that it is over, if it stood.
func (a *alerts) resolve(kind, subject string) {
	if since, stood := a.own.Resolve(kind, ""); stood {
		a.active.WithLabelValues(kind).Dec()
		a.log.Info("RESOLVED", "alert", kind, "subject", subject, "elapsed", time.Since(since).Round(time.Millisecond))
	}
}

// stillRaised is for an alert that was raised before this leadership or this process.
func (a *alerts) stillRaised(alert alerting.Alert, subject string) {
	a.log.Warn("still raised: "+alert.Text(), "alert", alert.Kind, "subject", subject, "elapsed", time.Since(alert.StartsAt).Round(time.Millisecond))
}

// standingAlerts shows in a word each what stands, as this node knows it: its
// own, and the cluster's if it leads.
func (n *Node) standingAlerts() []string {
	items := n.alerts.own.Show()
	if l := n.leader.Load(); l != nil {
		items = append(items, l.alerts.List()...)
	}
	list := make([]string, 0, len(items))
	for _, i := range items {
		if i.Standing() {
			subject := i.Participant
			if subject == "" {
				subject = i.Source
			}
			list = append(list, fmt.Sprintf("%s %s since %s", i.Kind, subject, i.StartsAt.UTC().Format(time.RFC3339)))
		}
	}
	slices.Sort(list)
	return list
}
