package deploy

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// hosts are addresses of the loopback network that stand for those of files.
type hosts struct {
	network string
	numbers map[string]int
}

// randomNetwork is 254 addresses of the loopback network, without the last byte.
func randomNetwork() string { return fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)) }

// newHosts takes a network that no other test uses.
func newHosts(t *testing.T) *hosts {
	t.Helper()
	h := &hosts{randomNetwork(), map[string]int{}}
	l, err := net.Listen("tcp", h.of("any")+":0")
	if err != nil {
		t.Skipf("this system has one loopback address: %v", err)
	}
	_ = l.Close()
	return h
}

// of is the address that stands for a host.
func (h *hosts) of(name string) string {
	if h.numbers[name] == 0 {
		h.numbers[name] = len(h.numbers) + 1
	}
	return fmt.Sprint(h.network, h.numbers[name])
}

// runner runs command lines of files until the end of a test.
type runner struct {
	t         *testing.T
	dir       string
	processes []*local.Process
}

func newRunner(t *testing.T) *runner {
	r := &runner{t: t, dir: t.TempDir()}
	t.Cleanup(func() {
		for _, p := range r.processes {
			if !p.Running() {
				t.Errorf("%s ended by itself", p.Name)
			}
			if err := p.Stop(10 * time.Second); err != nil {
				t.Errorf("end of %s: %v", p.Name, err)
			}
			if t.Failed() {
				log := readFile(t, p.Log)
				t.Logf("---- %s %q ----\n%s", p.Name, p.Args(), log[max(0, len(log)-2000):])
			}
		}
	})
	return r
}

func (r *runner) start(name string, args, env []string) {
	r.t.Helper()
	p := local.NewProcess(name, binary, r.dir, args, env)
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.processes = append(r.processes, p)
}

// commits waits until a transaction over the participants has committed.
func (r *runner) commits(nodes []string, participants ...string) {
	r.t.Helper()
	c, err := rpc.NewClient(nodes)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	for _, name := range participants {
		eventually(r.t, name+" is registered", func() bool {
			list, err := c.ListParticipants(within(r.t, time.Second))
			return err == nil && strings.Contains(fmt.Sprint(list), name)
		})
	}
	req := &pb.SubmitRequest{Wait: pb.Wait_COMPLETED}
	for _, name := range participants {
		req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: []byte(`{"ops":[{"op":"put","key":"k","value":1}]}`)})
	}
	resp, err := c.Submit(within(r.t, 30*time.Second), req)
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT {
		r.t.Errorf("%v, %v", resp, err)
	}
}
