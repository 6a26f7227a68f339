package inprocess

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// alertRepeat is longer than any test takes: what comes twice before it is doubled.
const alertRepeat = time.Hour

// alertingWorld makes a cluster of three whose nodes tell a receiver.
func alertingWorld(t *testing.T, r *receiver, participants ...string) *world {
	return newWorld(t, options{nodes: 3, steady: true, participants: participants, node: func(c *node.Config) {
		c.AlertAfter, c.AlertWebhook, c.AlertRepeat = 400*time.Millisecond, r.url(), alertRepeat
	}})
}

// undeliver commits n transactions and stops a participant before it has applied them.
func (w *world) undeliver(name string, n int) (ids []string) {
	w.t.Helper()
	p := w.parties[name]
	gate := p.holdCommit()
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%d", name, i))
		w.commits(request(ids[i], pb.Wait_DECIDED, branch(name, add(ids[i], 1)), branch("payments", add(ids[i], 1))))
	}
	w.eventually("payments has applied them", func() bool { return w.parties["payments"].held() == 0 })
	p.stop()
	p.hooks.clear()
	gate.release()
	return ids
}

// marked waits until every running node has a cluster's alert in a state.
func (w *world) marked(kind, participant string, state fsm.AlertState) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s %s is in state %d everywhere", kind, participant, state), func() bool {
		for _, m := range w.members {
			got := fsm.AlertGone
			if m.node != nil {
				m.node.Replica().View(func(m *fsm.Machine) {
					for _, a := range m.Alerts() {
						if a.Kind == kind && a.Participant == participant {
							got = a.State
						}
					}
				})
				if got != state {
					return false
				}
			}
		}
		return true
	})
}

// listed is a cluster's alert as concordat alerts list shows it; nil if it does not.
func (w *world) listed(kind, participant string) *pb.Alert {
	w.t.Helper()
	list, err := w.client.ListAlerts(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range list.GetAlerts() {
		if a.GetName() == kind && a.GetParticipant() == participant && a.GetSource() == "cluster" {
			return a
		}
	}
	return nil
}

// A participant is down: one alert for all that waits for it. Two leaders are
// lost meanwhile, and nobody is told again; when it is back, that is told once.
func TestParticipantDownIsOneAlertAcrossLeaders(t *testing.T) {
	r := newReceiver(t)
	r.set(true) // until all three are overdue
	w := alertingWorld(t, r, "seats", "payments", "later-0", "later-1")
	ids := w.undeliver("seats", 3)
	w.eventually("it is listed with all three, and as not told", func() bool {
		a := w.listed("undelivered", "seats")
		return a.GetCount() == 3 && a.GetRetries() > 0 && !a.GetNotified() && slices.Equal(a.GetTransactions(), ids)
	})
	r.set(false)
	w.hears(r, "undelivered", "seats", "firing")
	w.marked("undelivered", "seats", fsm.AlertTold)
	a := r.wantOne("undelivered", "seats")
	for _, id := range ids {
		if !strings.Contains(a.Annotations["transactions"], id) || strings.Contains(a.fingerprint(), id) {
			t.Errorf("%s: told %v", id, a)
		}
	}
	retries, err := strconv.Atoi(a.Annotations["retries"])
	if err != nil || retries < 1 || a.Annotations["count"] != "3" || !strings.Contains(a.Annotations["action"], "participants remove seats") {
		t.Errorf("told %v", a.Annotations)
	}
	if a.Labels["alertname"] != "ConcordatUndelivered" || a.Labels["severity"] != "warning" || a.Labels["cluster"] == "" || a.GeneratorURL == "" {
		t.Errorf("told %v from %q", a.Labels, a.GeneratorURL)
	}
	if a := w.listed("undelivered", "seats"); !a.GetNotified() || a.GetCount() != 3 {
		t.Errorf("listed %v", a)
	}
	for _, later := range []string{"later-0", "later-1"} {
		lost := w.leader()
		w.crashNode(lost)
		w.leader(lost)
		// What the new leader tells of another one it tells after it has looked at
		// everything, in the POST in which it would tell of seats too.
		w.undeliver(later, 1)
		w.hears(r, "undelivered", later, "firing")
		w.hears(r, "undelivered", "seats", "firing")
		w.startNode(lost)
	}
	for _, name := range []string{"seats", "later-0", "later-1"} {
		w.parties[name].start()
		w.hears(r, "undelivered", name, "firing", "resolved")
		w.marked("undelivered", name, fsm.AlertGone)
		r.wantOne("undelivered", name)
	}
	w.settled()
}

// A leader that could not tell what it raised leaves that to the next one.
func TestNextLeaderTellsWhatTheLastDidNot(t *testing.T) {
	r := newReceiver(t)
	r.set(true)
	w := alertingWorld(t, r, "seats", "payments")
	w.undeliver("seats", 1)
	w.marked("undelivered", "seats", fsm.AlertRaised)
	tried := r.attempts()
	w.eventually("the leader tried", func() bool { return r.attempts() > tried })
	lost := w.leader()
	w.crashNode(lost)
	w.leader(lost)
	r.set(false)
	w.hears(r, "undelivered", "seats", "firing")
	w.marked("undelivered", "seats", fsm.AlertTold)

	// So it is with the end.
	w.startNode(lost)
	r.set(true)
	w.parties["seats"].start()
	w.marked("undelivered", "seats", fsm.AlertOver)
	lost = w.leader()
	w.crashNode(lost)
	w.leader(lost)
	r.set(false)
	w.hears(r, "undelivered", "seats", "firing", "resolved")
	w.marked("undelivered", "seats", fsm.AlertGone)
	r.wantOne("undelivered", "seats")
}

// What is mended while nobody leads is told to be over by whoever leads next.
func TestResolvedWhileNobodyLeads(t *testing.T) {
	r := newReceiver(t)
	w := alertingWorld(t, r, "seats", "payments")
	w.undeliver("seats", 1)
	w.hears(r, "undelivered", "seats", "firing")
	w.marked("undelivered", "seats", fsm.AlertTold)
	first := w.leader()
	w.crashNode(first)
	second := w.leader(first)
	w.crashNode(second)
	w.parties["seats"].start() // asks, and a node that has the decision answers
	w.eventually("seats has settled", func() bool { return w.parties["seats"].held() == 0 })
	w.startNodes()
	w.hears(r, "undelivered", "seats", "firing", "resolved")
	w.marked("undelivered", "seats", fsm.AlertGone)
	r.wantOne("undelivered", "seats")
}

// A participant in doubt that reaches nobody tells so itself, once for all its
// branches, also when it is restarted meanwhile, and that it is over.
func TestParticipantTellsOfItsDoubt(t *testing.T) {
	r := newReceiver(t)
	w := newWorld(t, options{nodes: 3, steady: true, proxied: true, participants: []string{"open"}})
	p := w.addParty("doubtful", func(c *participant.Config) {
		c.AlertAfter, c.AlertWebhook, c.AlertRepeat, c.AlertDir = 300*time.Millisecond, r.url(), alertRepeat, w.dir
	})
	_, open1, end1 := w.inDoubt("d1")
	_, open2, end2 := w.inDoubt("d2")
	p.cutOff(blackhole)
	w.hears(r, "in_doubt", "doubtful", "firing")
	raised := func(n int) {
		t.Helper()
		w.eventually(fmt.Sprintf("%d branches were alerted about", n), func() bool {
			return w.logs.count("error", "", map[string]string{"alert": "in_doubt"}) == n
		})
	}
	raised(2)
	w.eventually("it shows both, and that it asks in vain", func() bool {
		d, err := p.wire().Describe(w.ctx(), &pb.DescribeRequest{})
		if err != nil || len(d.GetAlerts()) != 1 {
			return false
		}
		a := d.GetAlerts()[0]
		return a.GetNotified() && a.GetCount() == 2 && slices.Equal(a.GetTransactions(), []string{"d1", "d2"}) && a.GetRetries() > 0
	})
	lost := w.leader()
	w.crashNode(lost)
	w.leader(lost)
	p.stop()
	p.start()
	raised(4) // in the log, of each process
	w.hears(r, "in_doubt", "doubtful", "firing")
	open1.release()
	open2.release()
	p.cutOff(pass)
	for _, end := range []<-chan answer{end1, end2} {
		w.outcome(end, pb.Outcome_COMMIT)
	}
	w.hears(r, "in_doubt", "doubtful", "firing", "resolved")
	a := r.wantOne("in_doubt", "doubtful")
	if a.Labels["severity"] != "warning" || a.Labels["cluster"] == "" || !strings.Contains(a.Annotations["transactions"], "d1") || a.Annotations["action"] == "" {
		t.Errorf("told %v", a)
	}
}

// The leader's wall clock steps back while an alert stands: its end is not told
// as before its start, which receivers refuse.
func TestAlertOverAfterTheClockStepsBack(t *testing.T) {
	r := newReceiver(t)
	var back atomic.Int64
	w := newWorld(t, options{participants: []string{"seats", "payments"}, node: func(c *node.Config) {
		c.AlertAfter, c.AlertWebhook, c.AlertRepeat = 200*time.Millisecond, r.url(), alertRepeat
		c.Cluster.Wall = func() time.Time { return time.Now().Add(time.Duration(back.Load())) }
	}})
	w.undeliver("seats", 1)
	w.hears(r, "undelivered", "seats", "firing")
	w.marked("undelivered", "seats", fsm.AlertTold)
	back.Store(-int64(time.Hour))
	w.parties["seats"].start()
	w.hears(r, "undelivered", "seats", "firing", "resolved")
}
