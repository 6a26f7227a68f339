package cluster

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A leader that is killed takes its connections with it. Its followers need not
// wait for the heartbeat timeout then: each of them makes sure that nobody
// listens there any more, forgets that leader, so that it may vote for another,
// and asks the others, by Raft's own pre-vote, whether they would vote for it. If
// a majority would, it begins the election that the timer would have begun.
//
// Nothing of this is needed for safety: an election is safe whenever it begins.
// It disturbs no leader that is well, since the others, who hear from that one,
// refuse the pre-vote. What closes no connection is left to the timer.

const (
	// firstAsk and askPause pace the questions to the others, who may learn of the
	// loss a little later.
	firstAsk, askPause = 2 * time.Millisecond, 20 * time.Millisecond
	// losses bounds the peers whose loss has not been looked at yet.
	losses = 4
)

// lostPeer hears that the last connection from a peer has ended.
func (r *Replica) lostPeer(id string) {
	select {
	case r.lost <- id:
	default: // the timer sees to it
	}
}

// succeedLeaders looks at every peer that was lost whether it led.
func (r *Replica) succeedLeaders() {
	for {
		select {
		case id := <-r.lost:
			if r.succeed(id) {
				// A leader that comes and goes is not followed more often than the
				// timer would have it.
				r.sleep(r.cfg.Election)
			}
		case <-r.closing:
			return
		case <-r.fail.dead:
			return
		}
	}
}

// succession is a leader that may be gone, and the term that it led.
type succession struct {
	term            uint64
	leader, address string
}

// stands reports whether nothing has happened since: no other term, no leader
// but the lost one.
func (r *Replica) stands(s succession) bool {
	running := r.raft.Load()
	_, leader := running.LeaderWithID()
	return running.State() == raft.Follower && (leader == "" || string(leader) == s.leader) && running.CurrentTerm() == s.term
}

// succeed reports whether the peer was the leader, and is gone.
func (r *Replica) succeed(id string) bool {
	running := r.raft.Load()
	term := running.CurrentTerm()
	address, leader := running.LeaderWithID()
	s := succession{term: term, leader: id, address: string(address)}
	if string(leader) != id || !r.stands(s) || !r.isGone(s) {
		return false
	}
	voters := r.voterIDs()
	rank := slices.Index(slices.DeleteFunc(slices.Clone(voters), func(v string) bool { return v == id }), r.cfg.NodeID)
	r.cfg.Logger.Info("the leader is gone: no connection from it is left, and nobody listens there", "node", r.cfg.NodeID, "leader", id, "term", term)
	if !r.forget(s) || rank < 0 {
		return true
	}
	// Two candidates at once would each vote for themselves. So at first only that
	// one begins whom all the others would elect; among equally long logs the
	// first by name.
	began, united := time.Now(), time.Duration(rank+1)*r.cfg.Election/8
	for pause := firstAsk; time.Since(began) < r.cfg.Election; pause = min(2*pause, askPause) {
		if !r.stands(s) {
			return true
		}
		ask := majority
		if time.Since(began) < united {
			ask = everybody
			if rank > 0 {
				ask = allShorter
			}
		}
		if r.wouldElect(s, ask) {
			r.beginElection(s)
			return true
		}
		if !r.sleep(pause) {
			return true
		}
	}
	return true
}

// isGone reports whether nothing that speaks for the leader is at its address. A
// machine that does not answer at all may only be cut off from this one.
func (r *Replica) isGone(s succession) bool {
	ctx, cancel := context.WithTimeout(r.layer.life, r.cfg.Heartbeat)
	defer cancel()
	err := r.layer.probe(ctx, s.address)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

// forget makes Raft follow nobody in the term: it hears a heartbeat that names no
// leader. Nobody but the lost leader led that term, so this node does not.
func (r *Replica) forget(s succession) bool {
	var resp raft.AppendEntriesResponse
	err := r.trans.NetworkTransport.AppendEntries(raft.ServerID(r.cfg.NodeID), r.trans.LocalAddr(),
		&raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: s.term}, &resp)
	if err != nil {
		r.cfg.Logger.Debug("the lost leader is not forgotten", "leader", s.leader, "error", err)
	}
	return err == nil
}

// consent is who must be for an election before it is begun.
type consent int

const (
	majority   consent = iota // of all voters
	everybody                 // of the voters but the lost leader
	allShorter                // everybody, and all have shorter logs
)

// wouldElect asks the others for their pre-votes, and reports whether those
// suffice. They are asked in the term of the lost leader: whoever has begun an
// election, or voted in one, refuses. To learn who has a shorter log, this node
// asks as if its own were shorter by an entry.
func (r *Replica) wouldElect(s succession, need consent) bool {
	stats := r.raft.Load().Stats()
	last, err1 := strconv.ParseUint(stats["last_log_index"], 10, 64)
	lastTerm, err2 := strconv.ParseUint(stats["last_log_term"], 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	if need == allShorter && last > 0 {
		last--
	}
	voters := r.Status().Voters
	granted := make(chan bool, len(voters))
	asked := 0
	for _, p := range voters {
		if p.ID == r.cfg.NodeID || p.ID == s.leader {
			continue
		}
		asked++
		r.tasks.Go(func() {
			var resp raft.RequestPreVoteResponse
			err := r.trans.RequestPreVote(raft.ServerID(p.ID), raft.ServerAddress(p.Address), &raft.RequestPreVoteRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(r.cfg.NodeID), Addr: []byte(r.trans.LocalAddr())},
				Term:      s.term, LastLogIndex: last, LastLogTerm: lastTerm,
			}, &resp)
			granted <- err == nil && resp.Granted
		})
	}
	patience := time.NewTimer(r.cfg.Election)
	defer patience.Stop()
	enough := len(voters)/2 + 1
	if need != majority {
		enough = max(enough, asked+1)
	}
	votes := 1
	for ; asked > 0 && votes < enough; asked-- {
		select {
		case yes := <-granted:
			if yes {
				votes++
			}
		case <-patience.C:
			return false
		case <-r.closing:
			return false
		}
	}
	return votes >= enough
}

// beginElection makes this node a candidate, by the message by which a leader
// hands over. A hand-over has the voters turn from a leader that they follow;
// RequestVote sees to it that this election does not.
func (r *Replica) beginElection(s succession) {
	r.trans.ordinary.Store(s.term + 1)
	if !r.stands(s) {
		return
	}
	r.cfg.Logger.Info("the others would vote for this node: it begins an election", "node", r.cfg.NodeID, "term", s.term+1)
	err := r.trans.NetworkTransport.TimeoutNow(raft.ServerID(r.cfg.NodeID), r.trans.LocalAddr(),
		&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &raft.TimeoutNowResponse{})
	if err != nil {
		r.cfg.Logger.Debug("no election was begun", "term", s.term+1, "error", err)
	}
}

// voterIDs are the voters, in an order that all agree on.
func (r *Replica) voterIDs() (ids []string) {
	for _, p := range r.Status().Voters {
		ids = append(ids, p.ID)
	}
	return ids
}

// sleep waits for d, or reports false if the replica ends.
func (r *Replica) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.closing:
	case <-r.fail.dead:
	}
	return false
}
