package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// profile says what a run is like.
type profile struct {
	faults    time.Duration // how long faults go on, virtual
	clients   int
	pause     time.Duration // of a client between two transactions, at most
	retention time.Duration
	// nodeDisk and participantDisk are what one write takes at most, latency what
	// a message takes at least: slow enough that transactions overlap each other
	// and the faults. Virtual time costs nothing.
	nodeDisk, participantDisk, latency time.Duration
	// mischief is the share of calls that something happens to at any time; more of it is a fault.
	mischief float64
	// calm is how long the time between two faults is at most.
	calm time.Duration
	// snapshotEvery is how many entries call for a snapshot, and twice as many as are kept behind it.
	snapshotEvery uint64
	// carried has every call share a stream; otherwise those do that are not alone.
	carried bool
}

func standard() profile {
	return profile{
		faults: 10 * time.Minute, clients: 5, pause: 3 * time.Second, retention: time.Minute,
		nodeDisk: 12 * time.Millisecond, participantDisk: 80 * time.Millisecond, latency: time.Millisecond, mischief: 0.02,
		calm: 8 * time.Second, snapshotEvery: 256,
	}
}

// drawn is a world of chance: whoever always runs the same one finds what is
// wrong with that one (swarm testing, Groce and others 2012).
func drawn(seed uint64) profile {
	random := rand.New(rand.NewPCG(seed, 6))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(high-low)))
	}
	return profile{
		clients: 1 + random.IntN(4), pause: between(time.Second, 8*time.Second), retention: between(10*time.Second, 5*time.Minute),
		nodeDisk: between(time.Millisecond, 20*time.Millisecond), participantDisk: between(5*time.Millisecond, 100*time.Millisecond),
		latency: between(200*time.Microsecond, 3*time.Millisecond), mischief: 0.04 * random.Float64(),
		calm: between(3*time.Second, 15*time.Second), snapshotEvery: 64 << random.IntN(5), carried: random.IntN(2) == 0,
	}
}

// world is one cluster in virtual time.
type world struct {
	profile   profile
	dir       string
	seed      uint64
	nodeHosts []string
	partHosts []string
	processes map[string]*process
	net       *network
	messages  *messages
	client    *rpc.Client // of the harness, on a host without faults
	endAll    context.CancelFunc

	mu     sync.Mutex // guards what follows
	random *rand.Rand
	lines  []string
	wrong  []string
	began  time.Time
}

// traceLines is how much of a run is kept for a failure.
const traceLines = 4000

func newWorld(dir string, seed uint64, p profile) *world {
	w := &world{
		profile: p, dir: dir, seed: seed, nodeHosts: []string{"n1", "n2", "n3"}, partHosts: []string{"p1", "p2", "p3"},
		processes: map[string]*process{}, random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
	}
	w.net = newNetwork(rand.New(rand.NewPCG(seed, 2)), p.latency)
	ctx, cancel := context.WithCancel(context.Background())
	w.messages, w.endAll = &messages{random: rand.New(rand.NewPCG(seed, 3)), ended: ctx}, cancel
	for _, host := range w.hosts() {
		w.processes[host] = &process{world: w, host: host}
	}
	return w
}

func (w *world) hosts() []string { return append(slices.Clone(w.nodeHosts), w.partHosts...) }

// storeOf keeps the log of a node: mixed in a cluster, and over the seeds each
// node has each.
func (w *world) storeOf(host string) cluster.LogStore {
	return cluster.LogStores[(w.seed+uint64(slices.Index(w.nodeHosts, host)))%uint64(len(cluster.LogStores))]
}

func (w *world) isNode(host string) bool { return slices.Contains(w.nodeHosts, host) }

// draw is a number from the run's own source of chance.
func (w *world) draw() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.Uint64()
}

func (w *world) trace(who, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%12s %-3s %s", time.Since(w.began).Round(time.Microsecond), who, fmt.Sprintf(format, args...)))
	if len(w.lines) > 2*traceLines {
		w.lines = slices.Clone(w.lines[len(w.lines)-traceLines:])
	}
}

// fail notes what must not be.
func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("!!", "%s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, text)
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wrong) > 0
}

type traceWriter struct {
	world *world
	host  string
}

func (t traceWriter) Write(b []byte) (int, error) {
	t.world.trace(t.host, "| %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) logger(host string) hclog.Logger {
	var out io.Writer = traceWriter{w, host}
	level := hclog.Warn
	if *verbose {
		level = hclog.Debug
	}
	return hclog.New(&hclog.LoggerOptions{Name: host, Level: level, Output: out, DisableTime: true})
}

// start brings the cluster and its participants up.
func (w *world) start() error {
	var all sync.WaitGroup
	errs := make([]error, len(w.nodeHosts))
	for i, host := range w.nodeHosts {
		all.Go(func() { errs[i] = w.processes[host].start() })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.client = w.newClient("h")
	for _, host := range w.partHosts {
		if err := w.processes[host].start(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, err := w.client.AddParticipant(ctx, &pb.AddParticipantRequest{Name: host, Endpoints: []string{rpcAddress(host)}})
		cancel()
		if err != nil {
			return fmt.Errorf("register %s: %w", host, err)
		}
	}
	return nil
}

// newClient is a client on a host of its own. The harness's own (h) meets no mischief.
func (w *world) newClient(host string) *rpc.Client {
	options := (&process{world: w, host: host}).dialOptions()
	if host == "h" {
		options = options[:1]
	}
	var addresses []string
	for _, n := range w.nodeHosts {
		addresses = append(addresses, rpcAddress(n))
	}
	c, err := rpc.NewClient(addresses, options...)
	if err != nil {
		panic(err) // the addresses are ours
	}
	return c
}

// close ends everything that runs.
func (w *world) close() {
	w.endAll()
	var all sync.WaitGroup
	for _, p := range w.processes {
		all.Go(p.stop)
	}
	all.Wait()
	if w.client != nil {
		_ = w.client.Close()
	}
	w.messages.late.Wait()
}

// within polls a condition in virtual time.
func (w *world) within(limit time.Duration, what string, ok func() bool) bool {
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			w.fail("not within %s: %s", limit, what)
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

// leader is the host of the node that leads, or empty.
func (w *world) leader() string {
	for _, host := range w.nodeHosts {
		if n := w.processes[host].currentNode(); n != nil && n.Leads() {
			return host
		}
	}
	return ""
}

// show prints a failure: its trace, and how to see it again.
func (w *world) show(t testing.TB, seed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrong) == 0 {
		return
	}
	name := fmt.Sprintf("sim-%d.trace", seed)
	path := t.ArtifactDir() + string(os.PathSeparator) + name
	text := strings.Join(w.lines, "\n")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Log(err)
	}
	tail := w.lines[max(0, len(w.lines)-60):]
	test, _, _ := strings.Cut(t.Name(), "/")
	t.Errorf("seed %d: %d wrong, the first: %s\nagain: go test ./test/sim -run '%s$' -seed %d -minutes %d -swarm=%v -v\nthe end of the trace:\n%s",
		seed, len(w.wrong), w.wrong[0], test, seed, *minutes, *swarm, strings.Join(tail, "\n"))
}

// settled waits until nothing is under way and no lock is left, and compares
// the nodes' states.
func (w *world) settled(limit time.Duration) {
	began := time.Now()
	left := func() time.Duration { return limit - time.Since(began) }
	w.within(left(), "a leader", func() bool { return w.leader() != "" })
	w.within(left(), "every transaction is finished", func() bool {
		live := -1
		if host := w.leader(); host != "" {
			w.processes[host].view(func(m *fsm.Machine) { live = m.LiveCount() })
		}
		return live == 0
	})
	w.within(left(), "no branch is held and no lock is left", func() bool {
		for _, host := range w.partHosts {
			if locks, held := w.processes[host].heldHere(); locks+held > 0 {
				return false
			}
		}
		return true
	})
	w.within(left(), "all nodes have applied the same", func() bool {
		hashes := map[uint64]string{}
		for _, host := range w.nodeHosts {
			n := w.processes[host].currentNode()
			if n == nil {
				return false
			}
			index, hash := n.Replica().StateHash()
			if old, ok := hashes[index]; ok && old != hash {
				w.fail("%s has another state at index %d: %s, not %s", host, index, hash, old)
				return true
			}
			hashes[index] = hash
		}
		return len(hashes) == 1
	})
}
