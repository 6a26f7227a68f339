package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxErrorText is how much of a call's error an alert repeats.
const maxErrorText = 200

// alertKey names an alert of the cluster: what is wrong, and with whom.
type alertKey struct{ kind, participant string }

// finding is what the leader finds wrong with one participant now.
type finding struct {
	// raise: it has been so long enough to be raised. Without it, it is what an
	// earlier leadership may have raised: its clocks began before ours (P11), so
	// what it raised stands as long as anything that was resumed still waits.
	raise bool
	count int
	// first are those of the lowest attempts, in no order; at most twice as many as an alert names.
	first []waiting
	vain  uint64
	last  string // why the newest call failed
}

// waiting is a transaction that waits.
type waiting struct {
	attempt fsm.Attempt
	id      string
}

// oldest sorts what is in f.first and keeps what an alert names.
func (f *finding) oldest() []waiting {
	slices.SortFunc(f.first, func(a, b waiting) int { return a.attempt.Compare(b.attempt) })
	f.first = f.first[:min(len(f.first), alerting.MaxTransactions)]
	return f.first
}

func (f *finding) add(rec *fsm.Txn, old bool, p branchProgress) {
	f.raise = f.raise || old
	f.count++
	if f.first = append(f.first, waiting{rec.Attempt, rec.ID}); len(f.first) == 2*alerting.MaxTransactions {
		f.oldest() // there may be 100,000, and it is done every few seconds
	}
	f.vain += uint64(p.vain)
	if p.lastError != "" {
		f.last = p.lastError
	}
}

// findings are grouped by participant: one that is down is one alert.
type findings struct {
	of map[alertKey]*finding
	// unheard: a resumed transaction has not been looked at by its driver yet,
	// so nobody can say that no vote is missing.
	unheard bool
}

func (fs *findings) at(kind, participant string) *finding {
	key := alertKey{kind, participant}
	f := fs.of[key]
	if f == nil {
		f = &finding{}
		fs.of[key] = f
	}
	return f
}

// find looks for whatever has been unsettled for too long, in whatever state
// (P11). What was resumed and is not old by this leadership's clock can only keep
// up what is marked already.
func (l *leader) find(marks map[alertKey]fsm.AlertMark) findings {
	fs := findings{of: map[alertKey]*finding{}}
	for _, f := range l.snapshotFlights() {
		old := f.age() > l.node.cfg.AlertAfter
		if !old && (!f.resumed || len(marks) == 0) {
			continue
		}
		rec, _, _ := f.state()
		switch {
		case rec == nil:
			fs.unheard = fs.unheard || f.resumed
		case rec.State == fsm.Preparing:
			fs.missingVotes(rec, f.progress(), old)
		case !rec.State.Finished():
			f.eachProgress(func(i int, p branchProgress) {
				if rec.Owes(i) {
					fs.at(alertUndelivered, rec.Branches[i].Participant).add(rec, old, p)
				}
			})
		}
	}
	l.node.replica.View(fs.forOperators)
	return fs
}

// missingVotes is for a transaction that is not decided. If no vote is missing
// either, its decision does not reach the log, and that is nobody's fault in particular.
func (fs *findings) missingVotes(rec *fsm.Txn, progress []branchProgress, old bool) {
	missing := false
	for i, p := range progress {
		if !p.answered {
			missing = true
			fs.at(alertPreparing, rec.Branches[i].Participant).add(rec, old, p)
		}
	}
	if !missing {
		fs.at(alertPreparing, "").add(rec, old, branchProgress{})
	}
}

// forOperators finds branches that wait for a person: the state says so, no clock does.
func (fs *findings) forOperators(m *fsm.Machine) {
	for _, id := range m.NeedsOperator() {
		rec := m.Txn(id)
		if rec == nil {
			continue
		}
		for i := range rec.Branches {
			if rec.Branches[i].Settled.NeedsOperator() {
				fs.at(alertOperator, rec.Branches[i].Participant).add(rec, true, branchProgress{})
			}
		}
	}
}

// alert is the finding as an alert.
func (f *finding) alert(key alertKey, after time.Duration) alerting.Alert {
	first := f.oldest()
	a := describeAlert(key, f.count, first[0].id, after)
	a.Count, a.Retries = uint64(f.count), f.vain
	for _, w := range first {
		a.Transactions = append(a.Transactions, w.id)
	}
	if f.last != "" {
		a.Summary += "; its newest call failed: " + strings.ToValidUTF8(f.last[:min(len(f.last), maxErrorText)], "")
	}
	return a
}

// describeAlert says what is wrong, with n transactions or, if that is 0, with
// some, and what to do about the one that is given as an example.
func describeAlert(key alertKey, n int, example string, after time.Duration) alerting.Alert {
	some := func(one, many string) string {
		switch n {
		case 0:
			return many
		case 1:
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	a := alerting.Alert{Kind: key.kind, Severity: pb.Alert_WARNING, Source: alerting.ClusterSource, Participant: key.participant}
	switch key.kind {
	case alertUndelivered:
		a.Summary = fmt.Sprintf("participant %s has not applied %s for over %s", key.participant, some("decision", "decisions"), after)
		a.Action = fmt.Sprintf("start it or mend its network: its branches are delivered as soon as it answers; "+
			"or give them up with 'concordat participants remove %s --give-up'", key.participant)
	case alertPreparing:
		a.Summary = fmt.Sprintf("participant %s has not voted on %s for over %s", key.participant, some("transaction", "transactions"), after)
		a.Action = "see what keeps it from answering; what is not decided can be aborted with 'concordat tx abort'"
		if key.participant == "" {
			a.Summary = fmt.Sprintf("%s could not be decided for over %s although every vote is in", some("transaction", "transactions"), after)
			a.Action = "see whether the nodes reach each other and have room on their disks"
		}
	case alertOperator:
		a.Severity = pb.Alert_CRITICAL
		a.Summary = fmt.Sprintf("participant %s has branches of %s that were settled heuristically or given up", key.participant, some("transaction", "transactions"))
		a.Action = "compare its data with those of the other participants, mend them, then run 'concordat tx resolve " + example + " --acknowledge'"
	default:
		a.Summary = "an alert that this version does not know, of participant " + key.participant
		a.Action = "run the same version on every node"
	}
	return a
}
