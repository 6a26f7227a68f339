package participant

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxBatch bounds the references of one question.
	maxBatch = 1000
	// resyncEvery is how often the data are asked what they hold: another
	// endpoint of this participant may have prepared, settled or died.
	resyncEvery = 5 * time.Second

	// A branch that no node answered for: the partition may heal at any moment.
	aloneFirst = 200 * time.Millisecond
	aloneLast  = time.Second
	// A branch that is to wait: the decision will come by itself, too.
	waitFirst = 500 * time.Millisecond
	waitLast  = 2 * time.Second
	// A branch that the cluster cannot settle: an operator must.
	keptDelay = 30 * time.Second
	// heardPause is the shortest time between inquiries that messages of the cluster set off.
	heardPause = 100 * time.Millisecond
	// gatherLast is the longest pause between two rounds of inquiries for the sake of the work that a round is.
	gatherLast = 100 * time.Millisecond
)

// inquireLoop asks the cluster about branches in doubt until ctx ends (P7).
func (s *Server) inquireLoop(ctx context.Context) {
	tick := s.cfg.InquiryDelay / 4
	resync := time.Now().Add(resyncEvery)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.doubt.wakeup:
		}
		begun := time.Now()
		if s.doubt.takeLook(begun) || begun.After(resync) {
			resync = begun.Add(resyncEvery)
			s.resync(ctx)
		}
		s.inquire(ctx)
		s.alertOverdue()
		// Of 100,000 branches some are due at any time, and each round looks through
		// all of them: it waits for more of them the longer it takes.
		gather := min(8*time.Since(begun), gatherLast)
		timer.Reset(max(time.Until(s.doubt.next(time.Now().Add(tick))), gather))
	}
}

// heard notes that the cluster has sent a message: if inquiries went
// unanswered, the partition may just have healed.
func (s *Server) heard() {
	now := time.Now()
	last := s.asker.heard.Load()
	if last != nil && now.Sub(*last) < heardPause {
		return
	}
	this := now // of its own, so that most messages take no memory
	if s.asker.heard.CompareAndSwap(last, &this) {
		s.doubt.askAlone(now)
	}
}

// resync makes the set of branches in doubt what the data hold.
func (s *Server) resync(ctx context.Context) {
	asked := time.Now()
	s.doubt.look()
	ctx, cancel := context.WithTimeout(ctx, afterwards)
	defer cancel()
	held, err := s.rm.Held(ctx)
	if err != nil {
		s.log.Warn("cannot list the prepared branches, trying again later", "error", err)
		return
	}
	for _, ref := range s.doubt.sync(held, asked, time.Now()) {
		s.alerts.resolveBranch(ref)
	}
}

// inquire asks about every branch that is due, in batches. When no node
// answers for one batch, the others are not tried: nodes that hang must not
// keep this loop from its other work.
func (s *Server) inquire(ctx context.Context) {
	b := s.fence.binding.Load()
	refs := s.ofGeneration(s.doubt.due(time.Now()), b.Generation)
	reached := true
	for batch := range slices.Chunk(refs, maxBatch) {
		var answers map[Ref]pb.BranchOutcome_Answer
		if reached {
			answers = s.asker.inquire(ctx, b.ClusterID, s.cfg.Name, batch)
			reached = len(answers) > 0
		}
		if ctx.Err() != nil {
			return
		}
		for _, ref := range batch {
			s.act(ref, answers[ref])
		}
	}
}

// ofGeneration keeps the branches of an older generation of the cluster out:
// its history may have been lost with it, and so the cluster's word on them is
// worth nothing. An operator must see to them (P14).
func (s *Server) ofGeneration(refs []Ref, generation uint32) []Ref {
	var current []Ref
	for _, ref := range refs {
		if ref.Attempt.Generation >= generation {
			current = append(current, ref)
			continue
		}
		s.doubt.later(ref, time.Now(), keptDelay, keptDelay, 1, false)
		s.alerts.raise(alertGeneration, ref,
			"a prepared branch is of an older generation of the cluster: it is kept, an operator must settle it")
	}
	return current
}

// act does what the cluster answered about one branch.
func (s *Server) act(ref Ref, answer pb.BranchOutcome_Answer) {
	s.metrics.inquiries.WithLabelValues(answerLabel(answer)).Inc()
	r := React(answer)
	s.doubt.later(ref, time.Now(), r.First, r.Last, jitter(), r.Alone)
	switch {
	case r.Commit:
		s.deliver.now(ref, commit)
	case r.Rollback:
		s.deliver.now(ref, rollback)
	case answer == pb.BranchOutcome_FORGOTTEN:
		s.alerts.raise(alertForgotten, ref,
			"a prepared branch is of a transaction that the cluster has forgotten: it is kept, an operator must settle it")
	case answer == pb.BranchOutcome_MISMATCH:
		s.alerts.raise(alertMismatch, ref,
			"the cluster knows a prepared branch with other content: it is kept, an operator must settle it")
	}
}

func answerLabel(a pb.BranchOutcome_Answer) string {
	if a == pb.BranchOutcome_ANSWER_UNSPECIFIED {
		return "NONE"
	}
	return a.String()
}

// jitter is a factor of 0.75 to 1: never later than the delay promised.
func jitter() float64 { return 0.75 + rand.Float64()/4 }

func (s *Server) alertOverdue() {
	if mutant.On("prepared-times-out") {
		for ref := range s.doubt.overdue(time.Now(), time.Second) {
			s.deliver.now(ref, rollback)
		}
	}
	for ref, age := range s.doubt.overdue(time.Now(), s.cfg.AlertAfter) {
		s.alerts.raise(alertInDoubt, ref,
			"a branch is prepared and its decision does not come: see whether the cluster has a leader that this process can reach",
			"elapsed", age)
	}
}
