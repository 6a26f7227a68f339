package floor

import (
	"time"

	"github.com/hashicorp/raft"
)

const (
	// maxBatch is how many commands an entry holds.
	maxBatch = 256
	// queueLength is how many proposals may wait; a proposer beyond waits for room.
	queueLength  = 8192
	applyTimeout = 10 * time.Second
)

// coalescer gathers what is proposed while an entry commits into the next
// entry. One is outstanding, and nothing waits for company.
type coalescer struct {
	raft  *raft.Raft
	queue chan proposal
}

type proposal struct {
	command []byte
	done    chan<- error
}

func newCoalescer(r *raft.Raft) *coalescer {
	c := &coalescer{raft: r, queue: make(chan proposal, queueLength)}
	go c.run() // for as long as the process
	return c
}

// propose returns when the command is applied here.
func (c *coalescer) propose(command []byte) error {
	done := make(chan error, 1)
	c.queue <- proposal{command, done}
	return <-done
}

func (c *coalescer) run() {
	for first := range c.queue {
		waiting, commands := []proposal{first}, [][]byte{first.command}
	gather:
		for len(waiting) < maxBatch {
			select {
			case p := <-c.queue:
				waiting, commands = append(waiting, p), append(commands, p.command)
			default:
				break gather
			}
		}
		future := c.raft.Apply(batch(commands), applyTimeout)
		err := future.Error()
		if err == nil {
			err, _ = future.Response().(error)
		}
		for _, p := range waiting {
			p.done <- err
		}
	}
}
