package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
)

// The participants of every transaction.
const seats, payments = "seats", "payments"

// world is a cluster of processes that can be told where to die.
type world struct {
	*local.Cluster
	t      *testing.T // of the present case
	store  cluster.LogStore
	dir    string // of the processes
	points string // where they are told, and leave word
	client *rpc.Client
	// direct are connections to one node each: what it does not lead it forwards.
	direct map[string]*rpc.Conn
	round  int
	spares int
	broken bool // a case failed: the processes are in an unknown state
}

// segmentBytes of log store wal are soon full.
const segmentBytes = "8192"

// inStore is the environment of a node that keeps its log in a store.
func inStore(store cluster.LogStore) string { return "CONCORDAT_LOG_STORE=" + string(store) }

// config is of small logs and quick snapshots, so that every step comes soon.
func config(dir string) local.Config {
	return local.Config{
		Binary: binary, Dir: dir, Nodes: 3, Participants: []string{seats, payments},
		ServerArgs:      []string{"--one-phase", "--snapshot-threshold", "60", "--snapshot-interval", "200ms", "--trailing-logs", "20", "--segment-bytes", segmentBytes},
		ParticipantArgs: []string{"--forget-every", "500ms"},
	}
}

// startWorld starts a cluster of its own.
func startWorld(t *testing.T, store cluster.LogStore) *world {
	t.Helper()
	w := newWorld(t, store)
	c, err := local.Start(within(t, time.Minute), w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.adopt(c)
	return w
}

func newWorld(t *testing.T, store cluster.LogStore) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "concordat-crash-world-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, dir: dir, points: filepath.Join(dir, "points"), direct: map[string]*rpc.Conn{}}
	if err := os.Mkdir(w.points, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) config() local.Config {
	cfg := config(w.dir)
	cfg.Env = []string{failpoint.DirVariable + "=" + w.points, inStore(w.store)}
	return cfg
}

// adopt takes a running cluster.
func (w *world) adopt(c *local.Cluster) {
	w.t.Helper()
	w.Cluster = c
	var err error
	if w.client, err = c.Client(); err != nil {
		w.t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if w.direct[n.ID], err = rpc.Dial(n.RPC); err != nil {
			w.t.Fatal(err)
		}
	}
}

// close ends everything; a process that does not end well fails the test.
func (w *world) close(t *testing.T) {
	if w.client != nil {
		_ = w.client.Close()
	}
	for _, conn := range w.direct {
		_ = conn.Close()
	}
	if err := w.Cluster.Close(); err != nil && !w.broken {
		t.Errorf("end of the processes: %v", err)
	}
	_ = os.RemoveAll(w.dir)
}

// showLogs prints what the processes said, so that a failure can be understood.
func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, name := range logs {
		b, _ := os.ReadFile(name)
		w.t.Logf("---- %s ----\n%s", filepath.Base(name), b[max(0, len(b)-5000):])
	}
}

func (w *world) file(pid int, what string) string {
	return filepath.Join(w.points, fmt.Sprintf("%d.%s", pid, what))
}

// arm tells a running process where to die and waits until it knows.
func (w *world) arm(p *local.Process, point string) {
	w.t.Helper()
	if err := w.tryArm(p, point); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryArm(p *local.Process, point string) error {
	name := w.file(p.PID(), "arm")
	if err := os.WriteFile(name+".new", []byte(point), 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for p.Running() && !catches(p.PID(), syscall.SIGUSR2) && time.Now().Before(deadline) { // it has just been started
		time.Sleep(200 * time.Microsecond)
	}
	for n := 0; time.Now().Before(deadline); n++ {
		if n%100 == 0 {
			if err := p.Signal(syscall.SIGUSR2); err != nil {
				return err
			}
		}
		time.Sleep(200 * time.Microsecond)
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if !p.Running() {
			return fmt.Errorf("%s ended while it was armed", p.Name)
		}
	}
	return fmt.Errorf("%s did not read where to die", p.Name)
}

// catches reports whether a process has a handler for a signal by now.
func catches(pid int, sig syscall.Signal) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, mask, _ := strings.Cut(string(text), "SigCgt:")
	mask, _, _ = strings.Cut(strings.TrimSpace(mask), "\n")
	caught, err := strconv.ParseUint(mask, 16, 64)
	return err == nil && caught&(1<<(sig-1)) != 0
}

// armedAt is the environment of a process that dies at a point.
func armedAt(point string) string { return failpoint.Variable + "=" + point }

// diedAt reports whether a process ended by SIGKILL, and at which point it
// says that it did; "" if it is still running.
func (w *world) diedAt(p *local.Process) string {
	if p.Running() {
		return ""
	}
	err := p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Sprintf("no point, it ended with %v", err)
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
		return fmt.Sprintf("no point, it ended with %v", err)
	}
	text, err := os.ReadFile(w.file(p.PID(), "died"))
	if err != nil {
		return "no point, it was killed"
	}
	return strings.TrimSpace(string(text))
}

// restart starts a process that has died.
func (w *world) restart(p *local.Process, env ...string) {
	w.t.Helper()
	if err := p.StartWith(env...); err != nil {
		w.t.Fatal(err)
	}
}

// revive starts every process that has died.
func (w *world) revive() {
	w.t.Helper()
	for _, p := range w.all() {
		if !p.Running() {
			w.restart(p)
		}
	}
}

// all are the processes of the cluster.
func (w *world) all() []*local.Process {
	var list []*local.Process
	for _, n := range w.Nodes {
		list = append(list, n.Process)
	}
	return append(list, w.Participants[seats].Process, w.Participants[payments].Process)
}

// leader waits until a node leads.
func (w *world) leader() *local.Node {
	w.t.Helper()
	n, err := w.AwaitLeader(within(w.t, 30*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// follower is a node that does not lead.
func (w *world) follower() *local.Node {
	w.t.Helper()
	leader := w.leader()
	for _, n := range w.Nodes {
		if n != leader {
			return n
		}
	}
	panic("a cluster of one node")
}
