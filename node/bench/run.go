package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// callersAClient share one client, so one connection to each node.
	callersAClient = 256
	// interruptGrace is how long what is under way may go on after an
	// interruption; settleGrace is how long unknown outcomes are asked for after
	// the load, tidyGrace how long the keys' removal may take then.
	interruptGrace = 5 * time.Second
	settleGrace    = 20 * time.Second
	tidyGrace      = 30 * time.Second
	// markBytes make the keys of one run its own; they are written in hexadecimal.
	markBytes = 6
	// checkGrace bounds the check of the counters.
	checkGrace = 5 * time.Minute
)

// run is one run under way.
type run struct {
	cfg     Config
	clients []*rpc.Client
	data    *data
	chooser *chooser

	recorder *recorder
	settler  *settler
	backlog  *backlog // nil in a closed loop
	sequence atomic.Uint64
	underWay atomic.Int64
	// unsent were due in the window and in the backlog at the end; lost found it full.
	unsent, lost atomic.Int64
	missing      atomic.Int64
	// commits are of the whole run, by participant.
	commits []atomic.Int64

	// start is when the load begins, from when the window does.
	start, from time.Time
	// to is when the window ends, in nanoseconds after start: earlier if interrupted.
	to atomic.Int64
}

// Run checks cfg, loads the keys, puts the load on the cluster, learns the
// outcomes that are not known, checks the counters and removes the keys. It
// ends early with ctx, with a report of what was measured until then. An error
// means that there is nothing to report: a *fsm.FieldError for a bad Config, a
// *rpc.Error if the cluster refuses or does not answer.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, recorder: newRecorder()}
	defer r.close()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx), nil
}

func (r *run) close() {
	for _, c := range r.clients {
		_ = c.Close() // nothing is under way any more
	}
}

// prepare finds the participants and loads the keys.
func (r *run) prepare(ctx context.Context) error {
	if err := r.connect(); err != nil {
		return err
	}
	names, err := r.participants(ctx)
	if err != nil {
		return err
	}
	mark := make([]byte, markBytes)
	_, _ = rand.Read(mark) // it never fails
	r.data = newData(hex.EncodeToString(mark), r.cfg, names)
	r.commits = make([]atomic.Int64, len(names))
	r.chooser = &chooser{
		seed: r.cfg.Seed, participants: len(names), branches: r.cfg.Branches, readShare: r.cfg.ReadShare,
		keys: newKeyPicker(r.cfg.Keys, r.cfg.Skew),
	}
	r.stage(fmt.Sprintf("loading %d keys under %s in each of %d participants", r.cfg.Keys, r.data.prefix, len(names)))
	if err := r.data.load(ctx, r.clients[0]); err != nil {
		return r.notLoaded(ctx, err)
	}
	return nil
}

// connect makes the clients; the nodes are asked in another order by each.
func (r *run) connect() error {
	for i := range (r.cfg.Concurrency + callersAClient - 1) / callersAClient {
		k := i % max(len(r.cfg.Nodes), 1)
		client, err := rpc.NewClient(slices.Concat(r.cfg.Nodes[k:], r.cfg.Nodes[:k]))
		if err != nil {
			return err
		}
		r.clients = append(r.clients, client)
	}
	return nil
}

// participants are the names to use, in order.
func (r *run) participants(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Deadline)
	defer cancel()
	all, err := r.clients[0].ListParticipants(ctx)
	if err != nil {
		return nil, err
	}
	var active []string
	for _, p := range all {
		if p.GetKind() == kindKV && p.GetState() == stateActive {
			active = append(active, p.GetName())
		}
	}
	slices.Sort(active)
	if err := r.cfg.choosable(active, all); err != nil {
		return nil, err
	}
	if len(r.cfg.Participants) > 0 {
		active = slices.Clone(r.cfg.Participants)
	}
	return active, nil
}

// Words of the registry.
const (
	kindKV      = "kv"
	stateActive = "active"
)

// choosable checks that the participants asked for can be used, and are enough.
func (c Config) choosable(active []string, all []*pb.ParticipantInfo) error {
	for _, name := range c.Participants {
		if slices.Contains(active, name) {
			continue
		}
		i := slices.IndexFunc(all, func(p *pb.ParticipantInfo) bool { return p.GetName() == name })
		if i < 0 {
			return fmt.Errorf("participants: %s is not registered (see 'concordat participants list')", name)
		}
		return fmt.Errorf("participants: %s is of kind %s and %s; the load needs active ones of kind %s",
			name, all[i].GetKind(), all[i].GetState(), kindKV)
	}
	if len(active) < c.Branches {
		return fmt.Errorf("branches: at most one at each active participant of kind %s, and there are %d; got %d",
			kindKV, len(active), c.Branches)
	}
	return nil
}

// notLoaded says that the keys could not be made, after removing those that were.
func (r *run) notLoaded(ctx context.Context, err error) error {
	left := r.tidy(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if left != "" {
		return fmt.Errorf("load the keys: %w; %s", err, left)
	}
	return fmt.Errorf("load the keys: %w", err)
}

func (r *run) stage(text string) {
	if r.cfg.Stage != nil {
		r.cfg.Stage(text)
	}
}

// measure is the run after the keys are there.
func (r *run) measure(ctx context.Context) *Report {
	report := &Report{
		Format: Format, Client: fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Seed: r.cfg.Seed, Settings: settingsOf(r.cfg, r.data.names), KeyPrefix: r.data.prefix,
	}
	// What is asked after the load must not end with it.
	settling, settled := context.WithCancel(context.WithoutCancel(ctx))
	defer settled()
	unresolved := make([]atomic.Int64, len(r.data.names))
	r.settler = newSettler(settling, r.clients[0], func(number uint64, commit bool) {
		if commit {
			r.tallyCommit(number, r.commits)
		}
	}, func(number uint64) { r.tallyCommit(number, unresolved) })
	r.load(ctx)
	report.StartedAt, report.Interrupted = r.start.UTC(), ctx.Err() != nil

	stop := time.AfterFunc(settleGrace, settled)
	defer stop.Stop()
	if n := r.settler.waiting(); n > 0 {
		r.stage(fmt.Sprintf("asking for %d outcomes that are not known", n))
	}
	report.UnknownOutcomes = r.settler.finish()
	report.Counts.Overflow, report.Counts.Unsent = r.lost.Load(), r.unsent.Load()
	measured := time.Duration(r.to.Load()) - r.from.Sub(r.start)
	report.fill(r.recorder.whole(), max(measured, 0))
	r.fillOpen(report)
	r.stage("comparing the counters with the commits")
	report.Check = r.check(ctx, unresolved)
	r.finish(ctx, report)
	return report
}

func (r *run) fillOpen(report *Report) {
	if r.backlog == nil {
		return
	}
	report.OpenLoop = &OpenLoop{BacklogDeepest: r.backlog.deepest.Load()}
	if report.MeasuredSeconds > 0 {
		report.OpenLoop.OfferedPerSecond = float64(report.Counts.Operations) / report.MeasuredSeconds
	}
	if n := report.Counts.Overflow; n > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf(
			"%d operations found the backlog of %d full and were not sent: the latencies are those of the others", n, r.cfg.Backlog))
	}
	if n := report.Counts.Unsent; n > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("%d operations were still in the backlog at the end and were not sent", n))
	}
}

// tallyCommit counts a commit at each participant of an operation.
func (r *run) tallyCommit(number uint64, to []atomic.Int64) {
	for _, p := range r.chooser.choose(number).participants {
		to[p].Add(1)
	}
}

// check compares the counters in the data with the commits.
func (r *run) check(ctx context.Context, unresolved []atomic.Int64) Check {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkGrace)
	defer cancel()
	c := Check{OK: r.missing.Load() == 0, MissingReads: r.missing.Load(), Participants: make([]CheckCount, len(r.data.names))}
	errs := make([]error, len(r.data.names))
	var wg sync.WaitGroup
	for i, name := range r.data.names {
		wg.Go(func() {
			found, err := r.data.sum(ctx, r.clients[0], name)
			c.Participants[i] = CheckCount{name, r.commits[i].Load(), unresolved[i].Load(), found}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, p := range c.Participants {
		if errs[i] != nil {
			return Check{Participants: []CheckCount{}, MissingReads: c.MissingReads, Error: fmt.Sprintf("%s: %v", p.Participant, errs[i])}
		}
		c.OK = c.OK && p.Found >= p.Commits && p.Found <= p.Commits+p.Unresolved
	}
	return c
}

// finish removes the keys, unless they are wanted or evidence.
func (r *run) finish(ctx context.Context, report *Report) {
	switch {
	case r.cfg.Keep:
		report.KeysLeft = true
	case !report.Check.OK || report.UnknownOutcomes.Unresolved > 0:
		report.KeysLeft = true
		report.Notes = append(report.Notes, "the keys under "+r.data.prefix+" were left for you to look at")
	default:
		r.stage("removing the keys")
		if left := r.tidy(ctx); left != "" {
			report.KeysLeft = true
			report.Notes = append(report.Notes, left)
		}
	}
}

// tidy removes the keys; if that fails it says so.
func (r *run) tidy(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyGrace)
	defer cancel()
	if err := r.data.remove(ctx, r.clients[0]); err != nil {
		return fmt.Sprintf("keys under %s were left behind: %v", r.data.prefix, err)
	}
	return ""
}
