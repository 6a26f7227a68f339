package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

// idleStage is a cluster whose participants do nothing, each named by its number.
type idleStage struct {
	*stage
	participants []*local.Process
	names        []string
}

// idleStage starts three nodes and processes of participants: as many as
// processes says, each with so many.
func (b *bench) idleStage(ctx context.Context, name string, processes, each int, serverArgs ...string) (*idleStage, error) {
	s, err := b.stage(ctx, name, nil, append([]string{"--pprof"}, serverArgs...)...)
	if err != nil {
		return nil, err
	}
	i := &idleStage{stage: s}
	for n := range processes {
		if err := i.add(fmt.Sprintf("idle-%d", n+1), each); err != nil {
			i.close()
			return nil, err
		}
	}
	if err := i.reachable(ctx); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

// add starts one process with some participants.
func (i *idleStage) add(process string, participants int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var names, at []string
	for range participants {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // until all are found
		names, at = append(names, fmt.Sprintf("i%02d", len(i.names)+len(names)+1)), append(at, l.Addr().String())
	}
	p := local.NewProcess(process, self, i.dir, []string{
		noop.Role, "-name", strings.Join(names, ","), "-listen", strings.Join(at, ","), "-nodes", strings.Join(i.Addresses(), ","),
	}, nil)
	if err := p.Start(); err != nil {
		return err
	}
	i.names, i.participants = append(i.names, names...), append(i.participants, p)
	return nil
}

// reachable waits until the cluster reaches every participant.
func (i *idleStage) reachable(ctx context.Context) error {
	return await(ctx, "the participants are reachable", readyWithin, 50*time.Millisecond, func(ctx context.Context) bool {
		list, err := i.clients[0].ListParticipants(ctx)
		reached := 0
		for _, p := range list {
			if p.GetReachable() {
				reached++
			}
		}
		return err == nil && reached == len(i.names)
	})
}

func (i *idleStage) close() {
	var errs []error
	for _, p := range i.participants {
		_ = p.Resume() // one that is stopped cannot end
		errs = append(errs, p.Stop(10*time.Second))
	}
	if err := errors.Join(errs...); err != nil {
		i.bench.logf("at the end: %v", err)
	}
	i.stage.close()
}

// load is of transactions with so many branches, each with so many bytes.
func (i *idleStage) load(branches, bytesEach int) *load {
	l := newLoad(i.clients)
	content := bytes.Repeat([]byte{'x'}, bytesEach)
	l.request = func() *pb.SubmitRequest {
		req := &pb.SubmitRequest{}
		for _, name := range i.names[:branches] {
			req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: content})
		}
		return req
	}
	return l
}

// costs reports what transactions of a load cost.
func (i *idleStage) costs(ctx context.Context, experiment, what string, l *load, clients int) (*tally, error) {
	r := l.closed(ctx, clients)
	defer r.stop()
	sleep(ctx, pick(i.bench, 2*time.Second, 300*time.Millisecond))
	before, err := i.spent()
	if err != nil {
		return nil, err
	}
	l.recorder.cut()
	sleep(ctx, pick(i.bench, 10*time.Second, time.Second))
	t := l.recorder.cut()
	after, err := i.spent()
	if err != nil {
		return nil, err
	}
	out, n := i.bench.report, t.commits
	each := func(sum float64) float64 { return sum / float64(max(n, 1)) }
	note := ""
	if t.operations() > t.commits {
		note = t.String()
	}
	out.tell(experiment, what+": commits", t.rate(), "/s", n, note)
	out.tell(experiment, what+": p50", t.quantile(50), "ms", n, "")
	out.tell(experiment, what+": p99", t.quantile(99), "ms", n, "")
	out.tell(experiment, what+": CPU of nodes", each(1e6*(after.nodes-before.nodes).Seconds()), "us/tx", n, "of all three")
	out.tell(experiment, what+": CPU of participants", each(1e6*(after.participants-before.participants).Seconds()), "us/tx", n, "of all")
	out.tell(experiment, what+": written by nodes", each((after.written-before.written)/nodes/1024), "KiB/tx", n, "a node")
	return t, nil
}

// spent is what was used so far.
type spent struct {
	nodes, participants time.Duration
	written             float64 // bytes, by the nodes
}

func (i *idleStage) spent() (u spent, err error) {
	if u.nodes, err = cpuOf(i.nodeProcesses()); err != nil {
		return u, err
	}
	for _, n := range i.nodeProcesses() {
		bytes, err := written(n)
		if err != nil {
			return u, err
		}
		u.written += bytes
	}
	u.participants, err = cpuOf(i.participants)
	return u, err
}
