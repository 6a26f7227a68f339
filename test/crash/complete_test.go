package crash

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestPointsAreComplete traces the system calls of every process while one
// transaction runs, and then until a snapshot was made. Each write, sync,
// rename, link and removal of a file, and each message at either end, must lie
// between two points that the same thread passed.
func TestPointsAreComplete(t *testing.T) {
	for _, store := range cluster.LogStores {
		t.Run(string(store), func(t *testing.T) { pointsAreComplete(t, store) })
	}
}

func pointsAreComplete(t *testing.T, store cluster.LogStore) {
	tr := newTracer(t)
	w := newWorld(t, store)
	log := filepath.Join(w.dir, "passed")
	cfg := w.config()
	// Messages that share a frame would have each other's points beside them.
	cfg.Env = append(cfg.Env, failpoint.LogVariable+"="+log, "CONCORDAT_CARRY=never")
	c, err := local.Start(within(t, time.Minute), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.adopt(c)
	defer w.close(t)
	for _, p := range w.all() {
		tr.attach(p.Name, p.PID())
	}
	w.round++
	x := w.transaction("commit", "", "")
	args := []string{"tx", "submit", "--id", x.req.GetId(), "--nodes", strings.Join(w.Addresses(), ","), "--wait", "completed"}
	for _, b := range x.req.GetBranches() {
		args = append(args, "--branch", b.GetParticipant()+"="+string(b.GetPayload()))
	}
	if out, err := tr.run("client", []string{failpoint.LogVariable + "=" + log}, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, settleTime, "the transaction is finished", func() string {
		r, err := w.client.Get(within(t, 5*time.Second), &pb.GetRequest{Id: x.req.GetId()})
		if err != nil || r.GetState() != pb.State_STATE_COMMITTED {
			return fmt.Sprint(r.GetState(), err)
		}
		return ""
	})
	before := w.newestSnapshot("n1")
	for deadline := time.Now().Add(time.Minute); w.newestSnapshot("n1") == before && time.Now().Before(deadline); {
		w.workload()
	}
	// One by one: some messages of each kind go out with no other, and what follows
	// a snapshot comes into the trace as well.
	for range 3 {
		w.round++
		w.run(w.transaction("abort", "", `,{"op":"check","key":"never","exists":true}`))
		w.run(w.alone("alone", ""))
	}
	traces := tr.stop()
	k := newChecker(w, log)
	for _, odd := range k.check(traces, "") {
		t.Error(odd)
	}
	k.coversTheProtocol(t)
	k.bites(t, traces)
}

// checker holds traces against points.
type checker struct {
	w     *world
	log   string
	stage map[string]failpoint.Stage // of each point of a call, without before and after
	grpc  map[string]bool            // ports
	raft  map[string]bool
	seen  map[string]int // points passed, by process and name
}

func newChecker(w *world, log string) *checker {
	k := &checker{w: w, log: log, stage: map[string]failpoint.Stage{}, grpc: map[string]bool{}, raft: map[string]bool{}, seen: map[string]int{}}
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	for _, n := range w.Nodes {
		k.grpc[port(n.RPC)], k.raft[port(n.Raft)] = true, true
	}
	for _, p := range w.Participants {
		k.grpc[port(p.Endpoint)] = true
	}
	for _, c := range append([]*failpoint.Call{failpoint.Hello, failpoint.Verdict}, failpoint.Calls...) {
		for s := failpoint.SendBefore; s <= failpoint.AnswerAfter; s++ {
			k.stage[c.At(s)] = s
		}
	}
	return k
}

// stageOf tells the points of calls apart; durable steps have none.
func (k *checker) stageOf(name string) (failpoint.Stage, bool) {
	if s, ok := k.stage[name]; ok {
		return s, true
	}
	caller := strings.HasPrefix(name, "exempt-caller.")
	if !caller && !strings.HasPrefix(name, "exempt.") {
		return 0, false
	}
	s := map[string]failpoint.Stage{"send": failpoint.SendBefore, "receive": failpoint.ReceiveBefore, "answer": failpoint.AnswerBefore}[part(name, 2)]
	if caller && part(name, 2) == "answer" {
		s = failpoint.ReturnBefore
	}
	if part(name, 1) == "after" {
		s++
	}
	return s, true
}

// part is the n-th last part of a name.
func part(name string, n int) string {
	parts := strings.Split(name, ".")
	return parts[len(parts)-n]
}

// thread is what one thread is about.
type thread struct {
	durable, writes []string // steps and messages of which the before was passed and not the after
	arrived         *systemCall
	hands           *int // of the process: frames of handshakes that arrived and passed no point
}

// check returns what does not lie between two points. It passes over the
// points whose name begins with without, as if nobody hit them.
func (k *checker) check(traces map[string][]systemCall, without string) (odd []string) {
	for process, calls := range traces {
		threads, hands := map[string]*thread{}, 0
		for i := range calls {
			c := &calls[i]
			th := threads[c.thread]
			if th == nil {
				th = &thread{hands: &hands}
				threads[c.thread] = th
			}
			if why := k.step(th, process, c, without); why != "" {
				odd = append(odd, why+": "+c.String())
			}
		}
		if hands > 0 {
			odd = append(odd, fmt.Sprintf("%s: %d frames of handshakes arrived and no point was passed", process, hands))
		}
	}
	return odd
}

var (
	descriptor = regexp.MustCompile(`^\d+<(TCP[^\]]*\]|[^>]*)>`)
	endpoints  = regexp.MustCompile(`^TCP(?:v6)?:\[.*:(\d+)->.*:(\d+)\]$`)
	quoted     = regexp.MustCompile(`"([^"]*)"`)
)

func (k *checker) step(th *thread, process string, c *systemCall, without string) string {
	fd := ""
	if m := descriptor.FindStringSubmatch(c.args); m != nil {
		fd = m[1]
	}
	if fd == k.log {
		name := strings.TrimSpace(string(c.data))
		if without == "" {
			k.seen[process+" "+name]++
		}
		if without == "" || !strings.HasPrefix(name, without) {
			k.pass(th, name)
		}
		return ""
	}
	if m := endpoints.FindStringSubmatch(fd); m != nil {
		return k.socket(th, c, m[1], m[2])
	}
	switch c.name {
	case "write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "msync", "ftruncate", "fallocate":
		if !k.data(fd) {
			return ""
		}
	case "openat":
		if !strings.Contains(c.args, "O_CREAT") || !k.data(path(c.args)) || c.result < 0 {
			return ""
		}
	case "read", "readv", "recvfrom", "recvmsg", "sendto", "sendmsg":
		return ""
	default: // rename, link, unlink and their kin
		if !k.data(path(c.args)) || c.result < 0 {
			return ""
		}
	}
	if len(th.durable) == 0 {
		return "a durable step lies between no two points"
	}
	return ""
}

// path is the last path that a call names.
func path(args string) string {
	all := quoted.FindAllStringSubmatch(args, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// data reports whether a file is data of a process.
func (k *checker) data(name string) bool {
	inside := strings.HasPrefix(name, k.w.dir+"/")
	return inside && !strings.HasSuffix(name, ".log") && !strings.HasPrefix(name, k.w.points) && name != k.log
}

// pass notes that a thread passed a point.
func (k *checker) pass(th *thread, name string) {
	step, before := strings.CutSuffix(name, ".before")
	step = strings.TrimSuffix(step, ".after")
	list := &th.durable
	if s, message := k.stageOf(name); message {
		switch s {
		case failpoint.ReceiveBefore, failpoint.ReturnBefore:
			if th.arrived = nil; isHandshake(name) {
				*th.hands--
			}
			return
		case failpoint.ReceiveAfter, failpoint.ReturnAfter:
			return
		}
		list = &th.writes
	}
	if before {
		*list = append(*list, step)
	} else if i := slices.Index(*list, step); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
}

func isHandshake(name string) bool {
	return strings.Contains(name, "."+failpoint.Hello.Name+".") || strings.Contains(name, "."+failpoint.Verdict.Name+".")
}

// socket judges a call on a connection. What arrives must be seen by a point
// before the thread reads on.
func (k *checker) socket(th *thread, c *systemCall, ours, theirs string) string {
	raft, grpc := k.raft[ours] || k.raft[theirs], k.grpc[ours] || k.grpc[theirs]
	if !raft && !grpc || c.result <= 0 {
		return ""
	}
	begins, ends := true, true
	switch {
	case grpc:
		begins, ends = messages(c.data)
	case strings.HasPrefix(string(c.data), "CCDR"): // the head of a handshake's frame
		ends = false
	case strings.HasPrefix(string(c.data), `{"node":`) && strings.HasPrefix(c.name, "read"):
		// Its body. Between reading and judging it the goroutine may change threads.
		*th.hands++
		ends = false
	}
	switch c.name {
	case "write", "writev", "sendto", "sendmsg":
		if begins && len(th.writes) == 0 {
			return "a message leaves between no two points"
		}
	default:
		last := th.arrived
		th.arrived = nil
		if ends {
			th.arrived = c
		}
		if last != nil {
			return "a message arrived and no point was passed: " + last.String() + "; then"
		}
	}
	return ""
}

// messages reports whether HTTP/2 frames carry a part of a message, and the end of one.
func messages(p []byte) (part, end bool) {
	p = []byte(strings.TrimPrefix(string(p), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	for len(p) >= 9 {
		size := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		if kind := p[3]; kind == 0 || kind == 1 || kind == 9 {
			part = true
			end = end || p[4]&1 != 0 && kind != 9
		}
		p = p[min(len(p), 9+size):]
	}
	return part, end
}

// coversTheProtocol: the trace must have shown the whole of a transaction, or
// it proves little.
func (k *checker) coversTheProtocol(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	leader := k.w.Leader(ctx)
	if leader == nil {
		t.Fatal("nobody leads")
	}
	need := []string{"client client.submit.send.before", "client client.submit.answer.after", "n1 node.snapshot.finish.after", "n1 node.log.delete.before"}
	for _, step := range []string{"node.submit.receive.before", "node.log.store.before", "leader.append.send.before", "leader.prepare.send.after", "leader.commit.answer.after", "node.submit.answer.after"} {
		need = append(need, leader.ID+" "+step)
	}
	for _, p := range []string{seats, payments} {
		for _, step := range []string{"prepare.receive.before", "prepared.write.before", "store.commit.after", "prepare.answer.after", "commit.receive.after", "settled.write.after", "commit.answer.before"} {
			need = append(need, p+" participant."+step)
		}
	}
	for _, n := range k.w.Nodes {
		if n != leader {
			need = append(need, n.ID+" follower.append.receive.before", n.ID+" node.log.store.after", n.ID+" follower.append.answer.after")
		}
	}
	for _, name := range need {
		if k.seen[name] == 0 {
			t.Errorf("not in the trace: %s", name)
		}
	}
}

// bites proves the check: without any one of the points that stand beside a
// system call it must find something.
func (k *checker) bites(t *testing.T, traces map[string][]systemCall) {
	t.Helper()
	tried := 0
	for name, times := range k.seenSteps() {
		switch {
		case strings.HasPrefix(name, "participant.") && strings.HasSuffix(name, ".write"):
			continue // the committer, on a thread of its own, writes for these
		case name == "node.segment.remove":
			continue // it stands within node.log.delete
		case strings.HasPrefix(name, "exempt"), times < 4:
			continue // too rare: each may have gone out together with another message
		}
		if found := k.check(traces, name+"."); len(found) == 0 {
			t.Errorf("without %s nothing was missed: the check does not see it", name)
		}
		tried++
	}
	if tried < 20 {
		t.Errorf("only %d points tried", tried)
	}
	t.Logf("%d steps and messages in the traces; without any of them the check fails", tried)
}

// seenSteps are the steps whose before was passed in the trace.
func (k *checker) seenSteps() map[string]int {
	steps := map[string]int{}
	for name, times := range k.seen {
		_, name, _ = strings.Cut(name, " ")
		if step, ok := strings.CutSuffix(name, ".before"); ok {
			steps[step] += times
		}
	}
	return steps
}
