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
	events := k.events(traces)
	for _, odd := range k.check(events) {
		t.Error(odd)
	}
	k.coversTheProtocol(t)
	k.bites(t, events)
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
	arrived         *event
	hands           *int // of the process: frames of handshakes that arrived and passed no point
}

// check returns what does not lie between two points. It passes over the
// points of the steps and messages without, as if nobody hit them.
func (k *checker) check(events map[string][]event, without ...string) (odd []string) {
	for process, list := range events {
		threads, hands := map[string]*thread{}, 0
		for i := range list {
			e := &list[i]
			th := threads[e.call.thread]
			if th == nil {
				th = &thread{hands: &hands}
				threads[e.call.thread] = th
			}
			if why := k.step(th, e, without); why != "" {
				odd = append(odd, why+": "+e.call.String())
			}
		}
		if hands > 0 {
			odd = append(odd, fmt.Sprintf("%s: %d frames of handshakes arrived and no point was passed", process, hands))
		}
	}
	return odd
}

func (k *checker) step(th *thread, e *event, without []string) string {
	switch {
	case e.point != "":
		if end := strings.LastIndexByte(e.point, '.'); !slices.Contains(without, e.point[:end]) {
			k.pass(th, e.point)
		}
	case e.durable:
		if len(th.durable) == 0 {
			return "a durable step lies between no two points"
		}
	default:
		return e.message(th)
	}
	return ""
}

// message judges a call on a connection. What arrives must be seen by a point
// before the thread reads on.
func (e *event) message(th *thread) string {
	if e.hello {
		*th.hands++
	}
	if e.leaves {
		if e.begins && len(th.writes) == 0 {
			return "a message leaves between no two points"
		}
		return ""
	}
	last := th.arrived
	th.arrived = nil
	if e.ends {
		th.arrived = e
	}
	if last != nil {
		return "a message arrived and no point was passed: " + last.call.String() + "; then"
	}
	return ""
}

// event is what a system call is to the check: a point that was passed, a
// durable step, or a part of a message at one of its ends.
type event struct {
	call    *systemCall
	point   string
	durable bool

	leaves       bool // else it arrives
	begins, ends bool // it has a part of a message, and a message's end
	hello        bool // the body of a handshake's frame, arriving
}

var (
	descriptor = regexp.MustCompile(`^\d+<(TCP[^\]]*\]|[^>]*)>`)
	endpoints  = regexp.MustCompile(`^TCP(?:v6)?:\[.*:(\d+)->.*:(\d+)\]$`)
	quoted     = regexp.MustCompile(`"([^"]*)"`)
)

// events are the calls of the traces that the check is about; it reads them
// once for each point that it is tried without.
func (k *checker) events(traces map[string][]systemCall) map[string][]event {
	all := map[string][]event{}
	for process, calls := range traces {
		for i := range calls {
			if e := k.event(&calls[i]); e != nil {
				all[process] = append(all[process], *e)
				if e.point != "" {
					k.seen[process+" "+e.point]++
				}
			}
		}
	}
	return all
}

// event is nil if a call is nothing to the check.
func (k *checker) event(c *systemCall) *event {
	fd := ""
	if m := descriptor.FindStringSubmatch(c.args); m != nil {
		fd = m[1]
	}
	if fd == k.log {
		name := strings.TrimSpace(string(c.data))
		if !strings.Contains(name, ".") {
			return nil // the trace ended before it
		}
		return &event{call: c, point: name}
	}
	if m := endpoints.FindStringSubmatch(fd); m != nil {
		return k.socket(c, m[1], m[2])
	}
	switch c.name {
	case "write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "msync", "ftruncate", "fallocate":
		if !k.data(fd) {
			return nil
		}
	case "openat":
		if !strings.Contains(c.args, "O_CREAT") || !k.data(path(c.args)) || c.result < 0 {
			return nil
		}
	case "read", "readv", "recvfrom", "recvmsg", "sendto", "sendmsg":
		return nil
	default: // rename, link, unlink and their kin
		if !k.data(path(c.args)) || c.result < 0 {
			return nil
		}
	}
	return &event{call: c, durable: true}
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

// socket is a call on a connection between these ports.
func (k *checker) socket(c *systemCall, ours, theirs string) *event {
	raft, grpc := k.raft[ours] || k.raft[theirs], k.grpc[ours] || k.grpc[theirs]
	if !raft && !grpc || c.result <= 0 {
		return nil
	}
	e := &event{call: c, begins: true, ends: true}
	switch {
	case grpc:
		e.begins, e.ends = messages(c.data)
	case strings.HasPrefix(string(c.data), "CCDR"): // the head of a handshake's frame
		e.ends = false
	case strings.HasPrefix(string(c.data), `{"node":`) && strings.HasPrefix(c.name, "read"):
		// Its body. Between reading and judging it the goroutine may change threads.
		e.hello, e.ends = true, false
	}
	switch c.name {
	case "write", "writev", "sendto", "sendmsg":
		e.leaves = true
	}
	return e
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

// around are steps that stand within others, and those: one is seen to be
// missing only if they are missing too. raft-wal's log is deleted by a record
// of its segments and by their removal, which have points of their own.
var around = map[string][]string{
	"node.log.delete":     {"node.segment.record", "node.segment.remove"},
	"node.segment.record": {"node.log.delete", "node.log.store"},
	"node.segment.remove": {"node.log.delete"},
	"node.segment.create": {"node.log.store", "node.log.delete"},

	"participant.log.create": {"participant.store.commit"}, // with the first batch
}

// bites proves the check: without any one of the points that stand beside a
// system call it must find something.
func (k *checker) bites(t *testing.T, events map[string][]event) {
	t.Helper()
	tried := 0
	for name, times := range k.seenSteps() {
		_, message := k.stageOf(name + ".before")
		switch {
		case strings.HasPrefix(name, "participant.") && strings.HasSuffix(name, ".write"):
			continue // the committer, on a thread of its own, writes for these
		case message && times < 4, strings.HasPrefix(name, "exempt"):
			continue // too rare: each may have gone out together with another message
		}
		if found := k.check(events, append([]string{name}, around[name]...)...); len(found) == 0 {
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
