package demo

import (
	"fmt"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Strike is something done to a process, other than a kill of the leader.
type Strike struct {
	// What was done: kill, pause or cut; to a leader, follower, participant or database.
	What string `json:"what"`
	Role Target `json:"role"`
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// At is counted from the start of the load, what follows from the strike.
	At Millis `json:"at_ms"`
	// Back is when it had caught up or served again, went on, or was reached again.
	Back *Millis `json:"back_ms"`
	// FirstCommit is the first answer COMMIT to a booking made after the strike.
	FirstCommit        *Millis `json:"first_commit_after_ms"`
	FirstCommitBooking string  `json:"first_commit_after_booking"`
	// Answered is when a database that was killed did again.
	Answered *Millis `json:"answered_ms,omitempty"`
	// Waiting is how many branches were prepared in it then.
	Waiting int `json:"branches_waiting,omitempty"`
	// Settled is how long after it answered the last of those was settled.
	Settled *Millis `json:"branches_settled_after_answer_ms,omitempty"`

	at   time.Time
	hit  time.Time // when the kill was over: a database has many processes
	back time.Time // zero until it is back
}

// afterEffect is how long after a participant is back bookings may still abort
// because it was out: the prepare budget, and time to answer.
const afterEffect = 6 * time.Second

// explains reports whether a participant was out while that booking was under
// way, and the abort is one that follows from it.
func (s *Strike) explains(e *entry) bool {
	switch e.reason.GetCode() {
	case pb.Reason_TIMEOUT, pb.Reason_FAILED, pb.Reason_EXHAUSTED:
	default:
		return false
	}
	return s.absence() && e.ended.After(s.at) && (s.back.IsZero() || e.began.Before(s.back.Add(afterEffect)))
}

// absence: a participant, or the database under it, was out.
func (s *Strike) absence() bool { return s.Role == KillParticipant || s.Role == KillDatabase }

// excuse marks the aborts that follow from the absence of participants.
func excuse(entries []entry, strikes []*Strike) {
	for i := range entries {
		if e := &entries[i]; e.blamed() {
			e.excused = slices.ContainsFunc(strikes, func(s *Strike) bool { return s.explains(e) })
		}
	}
}

// account fills in what the clients were told.
func (s *Strike) account(entries []entry) {
	var first *entry
	for i := range entries {
		if e := &entries[i]; e.committed() && e.began.After(s.at) && e.began.After(s.hit) && (first == nil || e.ended.Before(first.ended)) {
			first = e
		}
	}
	if first != nil {
		s.FirstCommit, s.FirstCommitBooking = millis(first.ended.Sub(s.at)), first.ID
	}
}

// problems is what was not as it must be.
func (s *Strike) problems() []string {
	var list []string
	if s.Back == nil {
		list = append(list, fmt.Sprintf("%s did not come back after the %s", s.Name, s.What))
	}
	if s.Role == KillDatabase && s.What == "kill" && s.Settled == nil {
		list = append(list, fmt.Sprintf("the branches that were prepared in %s when it was killed were not settled", s.Name))
	}
	if s.FirstCommit == nil {
		list = append(list, fmt.Sprintf("no booking made after the %s of %s was committed", s.What, s.Name))
	}
	return list
}
