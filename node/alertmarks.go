package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc/alerting"
)

// clusterAlerts are the alerts that only a leader can judge. What was raised,
// told and is over stands in the log as marks, so the next leader goes on from
// there: it tells nothing twice and forgets nothing.
//
// One goroutine, run, proposes every mark of a leadership; so what it looked
// at before it proposed is still so when the command is applied.
type clusterAlerts struct {
	next    time.Duration // when to judge again, by the leadership's clock
	l       *leader
	changed chan struct{}
	told    chan toldMarks

	mu    sync.Mutex                  // guards found
	found map[alertKey]alerting.Alert // as last judged; one that is over keeps its last details
	// shown are the marks as the log lines and the gauge show them; of run.
	shown map[alertKey]fsm.AlertMark
	full  bool // that there is no room for more marks was logged; of run
}

// toldMarks are items that the webhook has taken.
type toldMarks struct {
	items []alerting.Item
	noted chan error // room for one
}

func newClusterAlerts(l *leader) *clusterAlerts {
	return &clusterAlerts{
		l: l, changed: make(chan struct{}, 1), told: make(chan toldMarks),
		found: map[alertKey]alerting.Alert{}, shown: map[alertKey]fsm.AlertMark{},
	}
}

// run judges, marks and tells until the leadership ends.
func (c *clusterAlerts) run(ctx context.Context) {
	defer c.showNone()
	c.takeOver()
	c.judge(ctx)
	if c.l.node.alerts.webhook != nil {
		cfg := c.l.node.notify(c)
		cfg.Confirm = c.l.verify
		c.l.wg.Go(func() { alerting.Run(ctx, cfg) })
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c.told:
			t.noted <- c.noteTold(ctx, t.items)
		case <-tick.C:
			if c.l.now() >= c.next {
				c.judge(ctx)
			}
		}
	}
}

// marks are the marks as they stand.
func (c *clusterAlerts) marks() map[alertKey]fsm.AlertMark {
	var list []fsm.AlertMark
	c.l.node.replica.View(func(m *fsm.Machine) { list = m.Alerts() })
	marks := make(map[alertKey]fsm.AlertMark, len(list))
	for _, m := range list {
		marks[alertKey{m.Kind, m.Participant}] = m
	}
	return marks
}

func stands(m fsm.AlertMark) bool { return m.State == fsm.AlertRaised || m.State == fsm.AlertTold }

// takeOver shows what an earlier leadership has raised.
func (c *clusterAlerts) takeOver() {
	c.shown = c.marks()
	c.learn(c.l.find(c.shown), c.shown)
	for _, i := range c.List() {
		if i.Standing() {
			c.l.node.alerts.active.WithLabelValues(i.Kind).Inc()
			c.l.node.alerts.stillRaised(i.Alert, i.Participant)
		}
	}
}

// learn keeps the details of what was found.
func (c *clusterAlerts) learn(fs findings, marks map[alertKey]fsm.AlertMark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, f := range fs.of {
		c.found[key] = f.alert(key, c.l.node.cfg.AlertAfter)
	}
	for key := range c.found {
		if _, marked := marks[key]; !marked && fs.of[key] == nil {
			delete(c.found, key)
		}
	}
}

// judge marks what has begun and what is over.
func (c *clusterAlerts) judge(ctx context.Context) {
	marks := c.marks()
	began := c.l.now()
	fs := c.l.find(marks)
	c.next = began + lookAfter(c.l.now()-began)
	now := c.l.node.cfg.Cluster.Wall().UnixMilli()
	var change []*fsmpb.AlertMark
	mark := func(key alertKey, state fsm.AlertState) {
		m := &fsmpb.AlertMark{Kind: key.kind, Participant: key.participant, State: uint32(state), RaisedMs: now}
		if state == fsm.AlertOver {
			m.OverMs = now
		}
		change = append(change, m)
	}
	c.learn(fs, marks)
	for key, f := range fs.of {
		if f.raise && !stands(marks[key]) {
			mark(key, fsm.AlertRaised)
		}
	}
	tells := c.l.node.alerts.webhook != nil
	for key, m := range marks {
		switch {
		case stands(m) && (fs.of[key] != nil || key.kind == alertPreparing && fs.unheard):
		case stands(m) && tells:
			mark(key, fsm.AlertOver)
		case stands(m) || !tells && fs.of[key] == nil:
			mark(key, fsm.AlertGone) // nobody is to be told
		}
	}
	if len(change) > 0 {
		if err := c.propose(ctx, change); err != nil && ctx.Err() == nil {
			c.l.log.Warn("alerts could not be marked in the log; it is tried again", "error", err)
		}
	}
	c.show()
}

// noteTold moves on the marks of what the webhook has taken, unless they have
// moved on already.
func (c *clusterAlerts) noteTold(ctx context.Context, items []alerting.Item) error {
	marks := c.marks()
	var change []*fsmpb.AlertMark
	for _, i := range items {
		m := marks[alertKey{i.Kind, i.Participant}]
		p := &fsmpb.AlertMark{Kind: i.Kind, Participant: i.Participant}
		switch {
		case m.RaisedMS != i.StartsAt.UnixMilli():
			continue // it came again meanwhile
		case i.State == alerting.Raised && m.State == fsm.AlertRaised:
			p.State = uint32(fsm.AlertTold)
		case i.State == alerting.Over && m.State == fsm.AlertOver:
			p.State = uint32(fsm.AlertGone)
		default:
			continue
		}
		change = append(change, p)
	}
	if len(change) == 0 {
		return nil
	}
	err := c.propose(ctx, change)
	c.show()
	return err
}

func (c *clusterAlerts) propose(ctx context.Context, change []*fsmpb.AlertMark) error {
	r, err := c.l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_MarkAlerts{MarkAlerts: &fsmpb.MarkAlerts{Marks: change}}})
	if err == nil && r.Rejection != nil {
		err = r.Rejection
	}
	if err != nil {
		return err
	}
	marks := c.marks()
	full := false
	for _, p := range change {
		_, taken := marks[alertKey{p.GetKind(), p.GetParticipant()}]
		full = full || p.GetState() == uint32(fsm.AlertRaised) && !taken
	}
	if full && !c.full {
		c.l.log.Error("there are more alerts than the log keeps marks of; the newest are not shown: see to the others first", "count", len(marks))
	}
	c.full = full
	c.wake()
	return nil
}

func (c *clusterAlerts) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// show logs and counts what has become of the marks since it was last shown.
func (c *clusterAlerts) show() {
	before, now := c.shown, c.marks()
	c.shown = now
	a := c.l.node.alerts
	for key, old := range before {
		if m := now[key]; stands(old) && (!stands(m) || m.RaisedMS != old.RaisedMS) {
			a.active.WithLabelValues(key.kind).Dec()
			a.log.Info("RESOLVED", "alert", key.kind, "subject", key.participant,
				"elapsed", max(0, c.l.node.cfg.Cluster.Wall().Sub(time.UnixMilli(old.RaisedMS))).Round(time.Millisecond))
		}
	}
	for key, m := range now {
		if old := before[key]; stands(m) && (!stands(old) || m.RaisedMS != old.RaisedMS) {
			a.active.WithLabelValues(key.kind).Inc()
			a.log.Error("ALERT "+c.item(m).Text(), "alert", key.kind, "subject", key.participant)
		}
	}
}

// showNone leaves it to the next leader to show what stands.
func (c *clusterAlerts) showNone() {
	for key, m := range c.shown {
		if stands(m) {
			c.l.node.alerts.active.WithLabelValues(key.kind).Dec()
		}
	}
}

// item is a mark with what is known of it.
func (c *clusterAlerts) item(m fsm.AlertMark) alerting.Item {
	key := alertKey{m.Kind, m.Participant}
	c.mu.Lock()
	a, known := c.found[key]
	c.mu.Unlock()
	if !known { // it was raised by an earlier leadership and was over before this one began
		a = describeAlert(key, 0, "ID", c.l.node.cfg.AlertAfter)
	}
	a.Cluster, a.StartsAt = c.l.clusterID, time.UnixMilli(m.RaisedMS).UTC()
	if m.State == fsm.AlertOver {
		a.EndsAt = time.UnixMilli(m.OverMS).UTC()
	}
	return alerting.Item{Alert: a, State: alerting.State(m.State)}
}

// List implements alerting.Book.
func (c *clusterAlerts) List() []alerting.Item {
	var list []fsm.AlertMark
	c.l.node.replica.View(func(m *fsm.Machine) { list = m.Alerts() })
	items := make([]alerting.Item, 0, len(list))
	for _, m := range list {
		items = append(items, c.item(m))
	}
	return items
}

// Changed implements alerting.Book.
func (c *clusterAlerts) Changed() <-chan struct{} { return c.changed }

// errLeadershipOver: nothing can be noted any more; the next leader tells it once more.
var errLeadershipOver = errors.New("the leadership ends")

// Told implements alerting.Book.
func (c *clusterAlerts) Told(ctx context.Context, items []alerting.Item) error {
	t := toldMarks{items: items, noted: make(chan error, 1)}
	select {
	case c.told <- t:
	case <-ctx.Done():
		return errLeadershipOver
	}
	select {
	case err := <-t.noted:
		return err
	case <-ctx.Done():
		return errLeadershipOver
	}
}
