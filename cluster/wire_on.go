//go:build failpoints

package cluster

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// calls are Raft's requests by the byte that leads each.
var calls = []*failpoint.Call{failpoint.Append, failpoint.Vote, failpoint.Install, failpoint.Succeed, failpoint.PreVote}

// callOf tells a request by its first bytes. Msgpack writes entries that are
// not there as nil.
func callOf(p []byte) *failpoint.Call {
	if int(p[0]) >= len(calls) {
		panic(fmt.Sprintf("Raft's request %d has no points", p[0]))
	}
	c := calls[p[0]]
	if c == failpoint.Append && bytes.Contains(p, []byte("Entries\xc0")) {
		return failpoint.Heartbeat
	}
	return c
}

// watched passes the points of the messages on a connection. There is one
// request at a time, and its answer comes before the next.
type watched struct {
	net.Conn
	dialed bool

	mu   sync.Mutex // guards call
	call *failpoint.Call
}

func watchDialed(conn net.Conn) net.Conn { return &watched{Conn: conn, dialed: true} }

func watchAccepted(conn net.Conn) net.Conn { return &watched{Conn: conn} }

// under is the call that is under way; p leads the request if there is none.
func (w *watched) under(p []byte) (c *failpoint.Call, begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.call == nil {
		w.call = callOf(p)
		return w.call, true
	}
	return w.call, false
}

// end takes the call off, if there is one.
func (w *watched) end() (c *failpoint.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, w.call = w.call, nil
	return c
}

func (w *watched) Write(p []byte) (int, error) {
	before, after := failpoint.SendBefore, failpoint.SendAfter
	var c *failpoint.Call
	if w.dialed { // a long request goes in pieces
		c, _ = w.under(p)
	} else if c, before, after = w.end(), failpoint.AnswerBefore, failpoint.AnswerAfter; c == nil {
		return w.Conn.Write(p)
	}
	failpoint.Hit(c.At(before))
	n, err := w.Conn.Write(p)
	failpoint.Hit(c.At(after))
	return n, err
}

func (w *watched) Read(p []byte) (int, error) {
	runtime.LockOSThread() // what arrived and that it did stand together in a trace
	defer runtime.UnlockOSThread()
	n, err := w.Conn.Read(p)
	switch {
	case n == 0:
	case w.dialed:
		if c := w.end(); c != nil {
			failpoint.Hit(c.At(failpoint.ReturnBefore))
		}
	default:
		if c, begins := w.under(p[:n]); begins {
			failpoint.Hit(c.At(failpoint.ReceiveBefore))
		}
	}
	return n, err
}

// returned passes on an answer that Raft has now.
func returned(c *failpoint.Call, err error) error {
	if err == nil {
		failpoint.Hit(c.At(failpoint.ReturnAfter))
	}
	return err
}

func voted(err error) error { return returned(failpoint.Vote, err) }

func appended(req *raft.AppendEntriesRequest) {
	c := failpoint.Append
	if len(req.Entries) == 0 {
		c = failpoint.Heartbeat
	}
	_ = returned(c, nil)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return returned(failpoint.PreVote, t.NetworkTransport.RequestPreVote(id, at, req, resp))
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return returned(failpoint.Install, t.NetworkTransport.InstallSnapshot(id, at, req, resp, data))
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return returned(failpoint.Succeed, t.NetworkTransport.TimeoutNow(id, at, req, resp))
}

// Consumer passes a request's last point before Raft has it.
func (t *transport) Consumer() <-chan raft.RPC {
	handed := make(chan raft.RPC)
	go func() {
		for {
			select {
			case rpc := <-t.NetworkTransport.Consumer():
				failpoint.Hit(requestOf(rpc.Command).At(failpoint.ReceiveAfter))
				select {
				case handed <- rpc:
				case <-t.layer.closing:
					return
				}
			case <-t.layer.closing:
				return
			}
		}
	}()
	return handed
}

func requestOf(command any) *failpoint.Call {
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		if len(r.Entries) > 0 {
			return failpoint.Append
		}
		return failpoint.Heartbeat
	case *raft.RequestVoteRequest:
		return failpoint.Vote
	case *raft.RequestPreVoteRequest:
		return failpoint.PreVote
	case *raft.InstallSnapshotRequest:
		return failpoint.Install
	case *raft.TimeoutNowRequest:
		return failpoint.Succeed
	}
	panic(fmt.Sprintf("Raft's request %T has no points", command))
}
