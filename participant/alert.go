package participant

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The kinds of alerts: the label of the gauge.
const (
	alertInDoubt    = "in_doubt"   // prepared longer than AlertAfter
	alertSettle     = "settle"     // decided, and the resource manager fails longer than AlertAfter
	alertForgotten  = "forgotten"  // prepared, and the cluster has forgotten the transaction
	alertMismatch   = "mismatch"   // prepared, and the cluster knows other content
	alertGeneration = "generation" // prepared under an older generation of the cluster
	alertInstance   = "instance"   // the database is another instance than the data are bound to
)

var alertKinds = []string{alertInDoubt, alertSettle, alertForgotten, alertMismatch, alertGeneration, alertInstance}

// branchAlerts are the kinds that end with the branch.
var branchAlerts = []string{alertInDoubt, alertForgotten, alertMismatch, alertGeneration}

// alertWebhookField names the URL in errors.
const alertWebhookField = "AlertWebhook"

// alerts are what an operator must see to: one ERROR line a transaction when it
// begins, one INFO line when it is over, a gauge in between. Outside they are
// told by kind: the webhook gets one alert for all transactions of a kind.
type alerts struct {
	name    string
	log     hclog.Logger
	gauge   *prometheus.GaugeVec
	cluster func() string
	doubt   *doubtSet
	webhook *alerting.Webhook // nil: nobody is told
	book    *alerting.Local

	mu     sync.Mutex // guards what follows; taken before the book's
	active map[string]map[string]*raised
	count  int // of all in active
	// carried are the branches, by id, that were prepared when this process
	// began and still are. Its clocks are younger than what an earlier process
	// raised, the kinds in earlier: that stands as long as any of them is left.
	carried, earlier map[string]bool
}

// raised is one transaction of a kind.
type raised struct {
	id      string
	attempt rpc.Attempt
	vain    uint64
}

func newAlerts(cfg Config, log hclog.Logger, m *metrics, doubt *doubtSet, cluster func() string) (*alerts, error) {
	a := &alerts{
		name: cfg.Name, log: log, gauge: m.alerts, cluster: cluster, doubt: doubt,
		active: map[string]map[string]*raised{}, carried: map[string]bool{}, earlier: map[string]bool{},
	}
	for _, kind := range alertKinds {
		a.gauge.WithLabelValues(kind).Set(0)
		a.active[kind] = map[string]*raised{}
	}
	local := alerting.LocalConfig{Refresh: a.refresh, Logger: log}
	if cfg.AlertWebhook != "" {
		w, err := alerting.NewWebhook(alertWebhookField, cfg.AlertWebhook)
		if err != nil {
			return nil, err
		}
		a.webhook, local.Tells = w, true
		if cfg.AlertDir != "" {
			local.Path = filepath.Join(cfg.AlertDir, cfg.Name+".alerts.json")
		}
		log.Info("alerts are told to a webhook", "webhook", w.String(), "repeat", cfg.AlertRepeat)
	}
	a.book = alerting.OpenLocal(local)
	return a, nil
}

// takeOver goes on with what an earlier process raised, given the branches that
// are prepared now.
func (a *alerts) takeOver(held []Held) {
	before := a.book.Show()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range before {
		if !i.Standing() {
			continue
		}
		a.earlier[i.Kind] = true
		if len(held) > 0 {
			a.log.Warn("still raised: "+i.Text(), "alert", i.Kind, "elapsed", time.Since(i.StartsAt).Round(time.Millisecond))
		}
	}
	for _, h := range held {
		a.carried[h.ID] = true
	}
	a.closeGroups()
}

// raise tells an operator once until it is resolved.
func (a *alerts) raise(kind string, ref Ref, message string, args ...any) {
	if a.add(kind, ref) {
		a.log.Error(message, append([]any{"alert", kind, "txn", ref.ID, "attempt", ref.Attempt}, args...)...)
	}
}

// add reports whether it is new.
func (a *alerts) add(kind string, ref Ref) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active[kind][ref.ID] != nil {
		return false
	}
	a.active[kind][ref.ID] = &raised{id: ref.ID, attempt: ref.Attempt}
	a.count++
	a.gauge.WithLabelValues(kind).Inc()
	if len(a.active[kind]) == 1 { // the others are in what refresh shows: 100,000 may come at once
		a.book.Raise(a.alert(kind))
	}
	return true
}

// inVain notes how many calls were made in vain for what was raised.
func (a *alerts) inVain(kind string, ref Ref, calls uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.active[kind][ref.ID]; r != nil {
		r.vain = calls
	}
}

// resolve says that it is over, if it was raised.
func (a *alerts) resolve(kind string, ref Ref) { a.end(ref, false, kind) }

// resolveBranch ends what was raised about a branch because it was prepared.
func (a *alerts) resolveBranch(ref Ref) { a.end(ref, true, branchAlerts...) }

// end is on the way of every branch that is settled: mostly there is nothing to do.
func (a *alerts) end(ref Ref, branch bool, kinds ...string) {
	for _, kind := range a.remove(ref, branch, kinds) {
		a.log.Info("the alert is resolved", "alert", kind, "txn", ref.ID, "attempt", ref.Attempt)
	}
}

func (a *alerts) remove(ref Ref, branch bool, kinds []string) (over []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if branch {
		delete(a.carried, ref.ID)
	}
	if a.count == 0 && len(a.earlier) == 0 {
		return nil
	}
	for _, kind := range kinds {
		if a.active[kind][ref.ID] == nil {
			continue
		}
		delete(a.active[kind], ref.ID)
		a.count--
		a.gauge.WithLabelValues(kind).Dec()
		over = append(over, kind)
	}
	a.closeGroups()
	return over
}

// closeGroups resolves the kinds that nothing is left of. Caller holds the lock.
func (a *alerts) closeGroups() {
	for _, kind := range alertKinds {
		if len(a.active[kind]) > 0 || a.earlier[kind] && len(a.carried) > 0 {
			continue
		}
		if since, stood := a.book.Resolve(kind, a.name); stood && a.earlier[kind] {
			a.log.Info("the alert of an earlier process is resolved", "alert", kind, "elapsed", time.Since(since).Round(time.Millisecond))
		}
		delete(a.earlier, kind)
	}
}

// alert is a kind with what is raised of it. Caller holds the lock.
func (a *alerts) alert(kind string) alerting.Alert {
	list := make([]*raised, 0, len(a.active[kind]))
	vain := uint64(0)
	for _, r := range a.active[kind] {
		list = append(list, r)
		vain += r.vain
	}
	if kind == alertInDoubt {
		vain = a.doubt.asked(a.active[kind])
	}
	slices.SortFunc(list, func(x, y *raised) int { return x.attempt.Compare(y.attempt) })
	out := describeAlert(kind, a.name, len(list))
	out.Cluster, out.Count, out.Retries = a.cluster(), uint64(len(list)), vain
	for _, r := range list[:min(len(list), alerting.MaxTransactions)] {
		if r.id == "" { // of the data, not of a branch
			continue
		}
		out.Transactions = append(out.Transactions, r.id)
	}
	return out
}

// refresh brings the details of a kind up to date. One that an earlier process
// raised keeps what was known then until this one knows better.
func (a *alerts) refresh(old *alerting.Alert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.active[old.Kind]) == 0 {
		return
	}
	now := a.alert(old.Kind)
	old.Summary, old.Action, old.Transactions, old.Count, old.Retries = now.Summary, now.Action, now.Transactions, now.Count, now.Retries
}

// describeAlert says what is wrong with n branches and what to do.
func describeAlert(kind, name string, n int) alerting.Alert {
	a := alerting.Alert{
		Kind: kind, Severity: pb.Alert_CRITICAL, Source: alerting.ParticipantSource(name), Participant: name,
		Action: "they are kept: settle them by hand as the transactions were decided",
	}
	of, are := fmt.Sprintf("%d branches of participant %s", n, name), " are"
	if n == 1 {
		of, are = "1 branch of participant "+name, " is"
	}
	switch kind {
	case alertInDoubt:
		a.Severity = pb.Alert_WARNING
		a.Summary = of + are + " prepared and no decision comes"
		a.Action = "see whether the cluster has a leader that this participant can reach"
	case alertSettle:
		a.Summary = of + are + " decided and cannot be settled"
		a.Action = "see to the participant's data store"
	case alertForgotten:
		a.Summary = of + are + " prepared, and the cluster has forgotten the transaction"
	case alertMismatch:
		a.Summary = of + are + " prepared, and the cluster knows other content"
	case alertGeneration:
		a.Summary = of + are + " prepared, of an older generation of the cluster"
	case alertInstance:
		a.Summary = "the database of participant " + name + " is another instance than before (restored or failed over): nothing is rolled back there, and nothing that is absent is believed"
		a.Action = "see that it has everything that was committed and prepared, then run 'concordat participants accept-instance " + name + "'"
	}
	return a
}

// list is what is raised and not over, as it travels.
func (a *alerts) list() []*pb.Alert {
	var list []*pb.Alert
	for _, i := range a.book.Show() {
		list = append(list, i.Proto())
	}
	return list
}

// notify is the configuration for telling outside.
func (s *Server) notify() alerting.Config {
	return alerting.Config{
		Webhook: s.alerts.webhook, Book: s.alerts.book, Repeat: s.cfg.AlertRepeat, Logger: s.log,
		Count: func(result string) { s.metrics.notifications.WithLabelValues(result).Inc() },
	}
}
