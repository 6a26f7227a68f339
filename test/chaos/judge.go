//go:build linux

package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/chaos/load"
	"github.com/concordat-tx/concordat/test/history"
)

const (
	// minCommitted is the share of transactions that must commit.
	minCommitted = 0.7
	// learnWithin is how long learning the outcomes may take in the end.
	learnWithin = 60 * time.Second
	// searchWithin is how long a search for one order may take.
	searchWithin = 20 * time.Second
	// readKeys is how many keys are read at once in the end.
	readKeys = 50
)

// judge ends the load and checks everything.
func (r *Report) judge(ctx context.Context, s *Stage, before map[string]holdings) {
	r.Checks = map[string]int{}
	if err := s.StopClients(); err != nil {
		r.problem("the clients did not end in order: %v", err)
	}
	r.settle(ctx, s)
	record, err := s.learn(ctx)
	if err != nil {
		r.problem("the record of the run: %v", err)
		return
	}
	r.sameState(ctx, s)
	r.leaks(ctx, s, before)
	r.judgeRecord(s, record)
	r.judgeDecisions(ctx, s, record)
	r.judgeMoney(ctx, s, record)
	r.count(record)
	for _, problem := range slices.Concat(s.watcher.found(), s.logProblems()) {
		r.problem("%s", problem)
	}
	r.Seconds = time.Since(r.began).Seconds()
}

// learn learns every unknown outcome by its id, and reads every list.
func (s *Stage) learn(ctx context.Context) (*load.Record, error) {
	record, err := s.replay()
	if err != nil {
		return nil, err
	}
	learning, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	for _, t := range record.Unknown() {
		s.own.Learn(learning, t.Call)
	}
	for _, p := range s.names {
		for keys := range slices.Chunk(listKeys(record, p), readKeys) {
			if a := s.own.Read(learning, load.Look, p, keys...); a.Outcome != load.Commit {
				return nil, fmt.Errorf("reading the lists of %s: %s", p, a.Why)
			}
		}
	}
	return s.replay()
}

func (s *Stage) replay() (*load.Record, error) {
	paths, err := s.Journals()
	if err != nil {
		return nil, err
	}
	return load.Replay(paths...)
}

// listKeys are the lists of a participant that anybody touched.
func listKeys(record *load.Record, participant string) []string {
	keys := map[string]bool{}
	for _, t := range record.Txns {
		for _, op := range t.Ops {
			if (t.Kind == load.Lists || t.Kind == load.Look) && op.Participant == participant {
				keys[op.Key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// judgeRecord holds what the clients saw against what can be.
func (r *Report) judgeRecord(s *Stage, record *load.Record) {
	for _, c := range record.Contradictions() {
		r.problem("%s", c)
	}
	for _, t := range record.Unknown() {
		r.problem("the outcome of %s (%s) cannot be learned", t.ID, t.Kind)
	}
	lists := record.Lists()
	found := history.CheckLists(lists)
	r.Anomalies = found.Found
	for _, a := range found.Anomalies {
		r.problem("%s", a)
	}
	r.Checks["transactions over lists"] += len(lists)
	r.search("register operations", history.CheckRegisters(record.Registers(), searchWithin))
	r.search("answers about states", history.CheckStates(record.StateOps(), searchWithin))
}

func (r *Report) search(what string, s *history.Searched) {
	for _, problem := range slices.Concat(s.Illegal, s.Undecided) {
		r.problem("%s", problem)
	}
	r.Checks[what] += s.Ops
}

// judgeDecisions holds what the clients were told against what a node says of
// every transaction (all nodes say the same: their states are equal).
func (r *Report) judgeDecisions(ctx context.Context, s *Stage, record *load.Record) {
	ctx, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	states := map[string]pb.State{}
	for after := ""; ; {
		page, err := s.admin.List(ctx, &pb.ListRequest{Limit: 1000, After: after})
		if err != nil {
			r.problem("the list of transactions: %v", err)
			return
		}
		for _, t := range page.GetTransactions() {
			states[t.GetId()] = t.GetState()
		}
		if after = page.GetNext(); after == "" {
			break
		}
	}
	var wrong []string
	for id, t := range record.Txns {
		if t.Kind == load.Look || t.Kind == load.Peek {
			continue
		}
		state, known := states[id]
		right := false
		switch t.Outcome() {
		case load.Commit:
			right = state == pb.State_STATE_COMMITTED
		case load.Abort:
			right = state == pb.State_STATE_ABORTED
		case load.Refused:
			right = !known
		case load.Unknown:
			right = true // it is a problem already
		}
		if !right {
			wrong = append(wrong, fmt.Sprintf("%s was answered %s, and the nodes say %s", id, t.Outcome(), state))
		}
		r.Checks["decisions"]++
	}
	slices.Sort(wrong)
	r.lostDecisions = len(wrong)
	if n := len(wrong); n > 0 {
		r.problem("%d decisions are not what was answered: %s", n, some(wrong))
	}
}

// some are the first of many.
func some(list []string) string { return strings.Join(list[:min(len(list), 10)], "; ") }

// judgeMoney counts the money, as audits found it while transfers ran and as it is now.
func (r *Report) judgeMoney(ctx context.Context, s *Stage, record *load.Record) {
	audits, wrong := record.WrongSums(s.money())
	if n := len(wrong); n > 0 {
		r.problem("money: %d of %d audits are wrong: %s", n, audits, some(wrong))
	}
	ctx, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	sum := int64(0)
	for _, p := range s.names {
		var keys []string
		for n := range load.Accounts {
			keys = append(keys, load.Account(n))
		}
		a := s.own.Read(ctx, load.Peek, p, keys...)
		for _, balance := range a.Reads {
			for _, n := range balance {
				sum += n
			}
		}
	}
	if sum != s.money() {
		r.problem("money: %d is left of %d", sum, s.money())
	}
	r.Checks["sums of all money"] += audits + 1
}

// count fills in how the transactions ended, and which faults count.
func (r *Report) count(record *load.Record) {
	r.AbortReasons, r.RefusalReasons = map[string]int{}, map[string]int{}
	r.Kinds = map[string]Tally{}
	again := map[string]bool{}
	for _, t := range record.Txns {
		again[t.RetryOf] = true
	}
	for _, t := range record.Txns {
		if t.Kind == load.Look || t.Kind == load.Peek {
			if r.Reads++; t.Outcome() != load.Commit {
				r.ReadsFailed++
			}
			continue
		}
		for _, f := range r.Faults {
			if t.Open(f.at) {
				f.Open++
			}
		}
		if again[t.ID] {
			r.LostTries++
			continue
		}
		r.Transactions++
		switch t.Outcome() {
		case load.Commit:
			if r.Committed++; t.OnePhase() {
				r.OnePhase++
			}
		case load.Abort:
			r.Aborted++
			reason, _, _ := strings.Cut(t.Why(), " ")
			r.AbortReasons[reason]++
		case load.Refused:
			r.Refused++
			reason, _, _ := strings.Cut(t.Why(), ":")
			r.RefusalReasons[reason]++
		case load.Unknown:
			r.Unknown++
		}
		if t.Resolved() {
			r.Resolved++
		}
	}
	for _, f := range r.Faults {
		tally := r.Kinds[f.Kind]
		tally.Made++
		if f.Counts() {
			tally.Count++
		}
		r.Kinds[f.Kind] = tally
	}
	for kind, t := range r.Kinds {
		if t.Count == 0 {
			r.problem("%s: no effect was seen, or no transaction was open, in %d tries", kind, t.Made)
		}
	}
	if r.OnePhase == 0 {
		r.problem("no transaction was committed in one phase")
	}
	r.CommittedShare = float64(r.Committed) / float64(max(1, r.Transactions))
	if r.CommittedShare < minCommitted {
		r.problem("only %.0f %% of the transactions committed: that proves little", 100*r.CommittedShare)
	}
}
