package crash

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// firstStart says that a point is passed when a node starts for the first time.
func firstStart(point string) bool {
	for _, p := range []string{"node.store.", "node.identity.", "node.peers.", "node.file.", "follower.announce.", "leader.announce."} {
		if strings.HasPrefix(point, p) {
			return true
		}
	}
	return false
}

// firstStart starts a new cluster in which a process dies at the point.
func (w *world) firstStart(c testCase) {
	t, point := w.t, c.point.Name
	t.Helper()
	plan, err := local.Plan(w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.Cluster = plan
	armed := []*local.Process{w.Nodes[0].Process}
	if strings.Contains(point, ".announce.") { // who leads is not known yet
		armed = []*local.Process{w.Nodes[0].Process, w.Nodes[1].Process, w.Nodes[2].Process}
	}
	first := point
	if strings.HasPrefix(point, "node.store.drop.") { // there must be something unfinished
		first = "node.store.open.after"
	}
	for _, p := range armed {
		w.restart(p, armedAt(first))
	}
	w.revive()
	dead := w.firstDeath(armed, first)
	if first != point {
		w.restart(dead, armedAt(point))
		w.awaitDeath(dead, point)
	}
	for _, p := range armed {
		_ = w.tryArm(p, "") // one that dies before it hears of it has died there, too
	}
	w.revive()
	if err := w.Ready(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.adopt(plan)
	w.audit(w.workload(), true)
}

// firstDeath waits for any of the processes to die at a point.
func (w *world) firstDeath(of []*local.Process, point string) *local.Process {
	w.t.Helper()
	for deadline := time.Now().Add(provokeTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, p := range of {
			if at := w.diedAt(p); at == point {
				return p
			} else if at != "" {
				w.t.Fatalf("%s died at %s, not at %s", p.Name, at, point)
			}
		}
	}
	w.t.Fatalf("nobody came to %s", point)
	return nil
}

// clears restarts a node that has left half a snapshot behind.
func (w *world) clears(point string) []*tx {
	w.t.Helper()
	p := w.follower().Process
	half := "node.snapshot.write.after"
	w.arm(p, half)
	var txs []*tx
	for deadline := time.Now().Add(provokeTime); p.Running() && time.Now().Before(deadline); {
		txs = append(txs, w.workload()...)
	}
	w.awaitDeath(p, half)
	w.restart(p, armedAt(point))
	w.awaitDeath(p, point)
	w.restart(p)
	return append(txs, w.workload()...)
}

// install brings a follower up whose next entry is in no log any more.
func (w *world) install(point, role string) []*tx {
	w.t.Helper()
	leader, behind := w.leader(), w.follower()
	if err := behind.Kill(); err != nil {
		w.t.Fatal(err)
	}
	st, err := w.client.Status(within(w.t, 5*time.Second), leader.RPC)
	if err != nil {
		w.t.Fatal(err)
	}
	var txs []*tx
	for need := st.GetLastIndex() + 30; w.newestSnapshot(leader.ID) < need; {
		txs = append(txs, w.workload()...)
	}
	victim := behind.Process
	if role == "leader" {
		victim = leader.Process
		w.arm(victim, point)
		w.restart(behind.Process)
	} else {
		w.restart(behind.Process, armedAt(point))
	}
	return append(txs, w.untilDead(victim, point, w.workload)...)
}

// newestSnapshot is the index of a node's newest snapshot, 0 if it has none.
func (w *world) newestSnapshot(node string) (newest uint64) {
	names, _ := filepath.Glob(filepath.Join(w.dir, node, "snapshots", "*-*-*"))
	for _, name := range names {
		var term, index uint64
		if n, _ := fmt.Sscanf(filepath.Base(name), "%d-%d-", &term, &index); n == 2 && !strings.HasSuffix(name, ".tmp") {
			newest = max(newest, index)
		}
	}
	return newest
}

// stopTime is ample for a participant to end by itself.
const stopTime = 20 * time.Second

// storeLog has a participant die where the log of its store begins or ends.
func (w *world) storeLog(victim *local.Process, point string) []*tx {
	w.t.Helper()
	txs := w.workload()
	var err error
	switch {
	case strings.HasPrefix(point, "participant.checkpoint.open."):
		err = victim.Kill() // it leaves its log behind
		w.restart(victim, armedAt(point))
		w.awaitDeath(victim, point)
	case strings.HasPrefix(point, "participant.log.create."):
		err = victim.Stop(stopTime) // it leaves none
		w.restart(victim, armedAt(point))
		txs = append(txs, w.untilDead(victim, point, w.workload)...)
	case strings.HasPrefix(point, "participant.checkpoint.beside."):
		err = victim.Stop(stopTime) // the log is made anew, and short
		w.restart(victim, armedAt(point), "CONCORDAT_LOG_BYTES=16384")
		txs = append(txs, w.untilDead(victim, point, w.workload)...)
	default:
		w.arm(victim, point)
		err = victim.Signal(syscall.SIGTERM)
		w.awaitDeath(victim, point)
	}
	if err != nil {
		w.t.Error(err)
	}
	w.revive()
	return append(txs, w.workload()...)
}

// newParticipant starts a participant with an empty directory, or gives one
// that has data a new incarnation, and lets it die at the point.
func (w *world) newParticipant(point string, restored bool) []*tx {
	t := w.t
	t.Helper()
	w.spares++
	name := fmt.Sprintf("spare-%d", w.spares)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := l.Addr().String()
	_ = l.Close()
	args := []string{
		"participant", "kv", "--name", name, "--listen", endpoint, "--data-dir", filepath.Join(w.dir, name),
		"--nodes", strings.Join(w.Addresses(), ","), "--register",
	}
	p := local.NewProcess(name, binary, w.dir, args, w.config().Env)
	defer func() { _ = p.Kill() }()
	if restored {
		w.restart(p)
		w.registered(name)
		_ = p.Kill()
		p = local.NewProcess(name, binary, w.dir, append(args, "--new-incarnation"), w.config().Env)
		defer func() { _ = p.Kill() }()
	}
	w.restart(p, armedAt(point))
	w.awaitDeath(p, point)
	w.restart(p)
	req := &pb.AddParticipantRequest{Name: name, Endpoints: []string{endpoint}, AcceptIncarnation: restored}
	eventually(t, settleTime, name+" is registered", func() string {
		if _, err := w.client.AddParticipant(within(t, 2*time.Second), req); err != nil {
			return err.Error()
		}
		return ""
	})
	w.round++
	x := w.transaction("commit", "", "")
	x.req.Branches = append(x.req.Branches, branch(name, `{"op":"put","key":"k","value":1}`))
	w.run(x)
	items, err := w.client.ReadKV(within(t, settleTime), name, "k")
	if x.outcome != pb.Outcome_COMMIT || err != nil || !items[0].GetExists() {
		t.Errorf("a transaction with %s: %v, %v, %v; read: %v, %v", name, x.outcome, x.reason, x.err, items, err)
	}
	eventually(t, settleTime, "the transaction with "+name+" is finished", func() string {
		r, err := w.client.Get(within(t, 2*time.Second), &pb.GetRequest{Id: x.req.GetId()})
		if err != nil || r.GetState() != pb.State_STATE_COMMITTED {
			return fmt.Sprint(r.GetState(), err)
		}
		return ""
	})
	return []*tx{x}
}

// registered waits until the registry has a participant.
func (w *world) registered(name string) {
	w.t.Helper()
	eventually(w.t, settleTime, name+" is registered", func() string {
		list, err := w.client.ListParticipants(within(w.t, 2*time.Second))
		for _, p := range list {
			if p.GetName() == name {
				return ""
			}
		}
		return fmt.Sprintf("%d others are, %v", len(list), err)
	})
}

// dial keeps one connection an address.
func (w *world) dial(address string) (*rpc.Conn, error) {
	if conn := w.direct[address]; conn != nil {
		return conn, nil
	}
	conn, err := rpc.Dial(address)
	if err == nil {
		w.direct[address] = conn
	}
	return conn, err
}
