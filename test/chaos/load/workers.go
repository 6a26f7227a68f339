package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// What the load is made of.
const (
	// Accounts at each participant, and what is in each at first.
	Accounts = 20
	Opening  = 1000

	// listSlots and registerSlots of a participant are in use at one moment;
	// each is left for a fresh key after an epoch, so that lists stay short and
	// histories of registers small.
	listSlots     = 24
	registerSlots = 2
	epoch         = 3 * time.Second

	// pace is the pause of a worker between two calls: the load is there to be
	// hurt, not to fill the machine.
	pace = 8 * time.Millisecond
	// conflictTries of a transaction that loses to an older one.
	conflictTries = 6
	// watchFor is how long a transaction's state is looked at.
	watchFor = 3 * time.Second
)

// Config describes one client process.
type Config struct {
	Name         string
	Nodes        []string
	Participants []string
	Journal      string
	Workers      int
	Budget       time.Duration
	Seed         uint64
	// Number is what this client's values begin with; nobody else has it.
	Number int64
	// Start is when the run began, by Now.
	Start int64
}

// Run keeps the workers busy until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	journal, err := OpenJournal(cfg.Journal)
	if err != nil {
		return err
	}
	client, err := NewClient(ctx, cfg.Name, cfg.Nodes, journal, cfg.Budget)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	v := &values{next: cfg.Number * 1_000_000_000}
	for i := range cfg.Workers {
		w := &worker{Config: cfg, client: client, values: v, random: rand.New(rand.NewPCG(cfg.Seed, uint64(i)))}
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	if err := client.Close(); err != nil {
		return err
	}
	return journal.Close()
}

// values gives every append a value that no other has.
type values struct {
	mu   sync.Mutex
	next int64
}

func (v *values) take() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next++
	return v.next
}

type worker struct {
	Config
	client  *Client
	values  *values
	random  *rand.Rand
	waiting sync.WaitGroup
}

func (w *worker) run(ctx context.Context) {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	defer w.waiting.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch n := w.random.IntN(100); {
		case n < 52:
			w.transact(ctx, Lists, w.listOps)
		case n < 62:
			w.look(ctx)
		case n < 76:
			w.transact(ctx, Transfer, w.transferOps)
		case n < 77:
			w.transact(ctx, Audit, w.auditOps)
		case n < 86:
			w.transact(ctx, Set, w.setOps)
		case n < 94:
			w.read(ctx, Peek, w.key("register", registerSlots))
		default:
			w.watched(ctx)
		}
	}
}

// deadline of a call: some callers are patient, some are not.
func (w *worker) deadline() time.Duration {
	return time.Duration(1500+w.random.IntN(6000)) * time.Millisecond
}

// transact submits, and again while it loses to older ones. An unknown outcome
// is learned beside the worker's next calls.
func (w *worker) transact(ctx context.Context, kind Kind, make func() []Op) {
	retryOf := ""
	for try := range conflictTries {
		c, cancel := context.WithTimeout(ctx, w.deadline())
		call, a := w.client.Transact(c, kind, make(), retryOf)
		cancel()
		if a.Outcome == Unknown {
			w.waiting.Go(func() { w.client.Learn(ctx, call) })
			return
		}
		if a.Outcome != Abort || !strings.HasPrefix(a.Why, "CONFLICT") || ctx.Err() != nil {
			return
		}
		retryOf = call.ID
		pause := time.Duration(20<<try) * time.Millisecond
		select {
		case <-ctx.Done():
		case <-time.After(pause/4 + time.Duration(w.random.Int64N(int64(pause)))):
		}
	}
}

// watched submits a transaction while its state is looked at.
func (w *worker) watched(ctx context.Context) {
	call := Call{ID: w.client.newID(), Kind: Lists, Ops: w.listOps(), Since: w.client.rpc.Index()}
	looks, stop := context.WithTimeout(ctx, watchFor)
	defer stop()
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() { w.client.watch(looks, call.ID) })
	}
	c, cancel := context.WithTimeout(ctx, w.deadline())
	defer cancel()
	sent, a := w.client.send(c, call)
	if a.Outcome == Unknown {
		w.waiting.Go(func() { w.client.Learn(ctx, sent) })
	}
	if a.Outcome == Refused {
		stop() // it will never be there
	}
	looking.Wait()
}

func (w *worker) participant() string { return w.Participants[w.random.IntN(len(w.Participants))] }

// key is one of the slots in the present epoch.
func (w *worker) key(what string, slots int) string {
	return fmt.Sprintf("%s/%d/%d", what, w.random.IntN(slots), (Now()-w.Start)/int64(epoch))
}

// listOps are appends to and reads of one to four lists at one to three participants.
func (w *worker) listOps() []Op {
	var ops []Op
	keys := 1 + w.random.IntN(4)
	names := w.random.Perm(len(w.Participants))[:min(keys, 1+w.random.IntN(len(w.Participants)))]
	for i := range keys {
		p, key := w.Participants[names[i*len(names)/keys]], w.key("list", listSlots)
		get := Op{Participant: p, Do: "get", Key: key}
		put := func() Op { return Op{Participant: p, Do: "append", Key: key, Value: w.values.take()} }
		switch w.random.IntN(12) {
		case 0, 1, 2, 3:
			ops = append(ops, get)
		case 4, 5, 6:
			ops = append(ops, put())
		case 7, 8:
			ops = append(ops, get, put())
		case 9:
			ops = append(ops, put(), get)
		case 10:
			ops = append(ops, get, put(), get)
		default:
			ops = append(ops, put(), put())
		}
	}
	return ops
}

// look is a plain read of some lists at one participant.
func (w *worker) look(ctx context.Context) {
	var keys []string
	for range 1 + w.random.IntN(4) {
		keys = append(keys, w.key("list", listSlots))
	}
	w.read(ctx, Look, keys...)
}

func (w *worker) read(ctx context.Context, kind Kind, keys ...string) {
	ctx, cancel := context.WithTimeout(ctx, w.deadline()/4)
	defer cancel()
	w.client.Read(ctx, kind, w.participant(), keys...)
}

// Account is the key of an account.
func Account(n int) string { return fmt.Sprintf("account/%d", n) }

// transferOps move money from one account to another, of one participant or two.
func (w *worker) transferOps() []Op {
	amount := int64(1 + w.random.IntN(20))
	from := Op{Participant: w.participant(), Do: "add", Key: Account(w.random.IntN(Accounts)), Value: -amount}
	for {
		to := Op{Participant: w.participant(), Do: "add", Key: Account(w.random.IntN(Accounts)), Value: amount}
		if to.Participant != from.Participant || to.Key != from.Key {
			return []Op{from, to}
		}
	}
}

func (w *worker) auditOps() []Op { return AuditOps(w.Participants) }

// AuditOps read every account.
func AuditOps(participants []string) []Op {
	var ops []Op
	for _, p := range participants {
		for n := range Accounts {
			ops = append(ops, Op{Participant: p, Do: "get", Key: Account(n)})
		}
	}
	return ops
}

func (w *worker) setOps() []Op {
	return []Op{{Participant: w.participant(), Do: "put", Key: w.key("register", registerSlots), Value: w.values.take()}}
}

// What a bulk transaction writes: as many long keys as a payload holds.
const (
	bulkKeys     = 55
	bulkKeyBytes = 1000
)

// BulkOps take room on a participant's disk. n is another one each time.
func BulkOps(participant string, n int64) []Op {
	var ops []Op
	for i := range bulkKeys {
		key := fmt.Sprintf("bulk/%d/%d/", n, i)
		ops = append(ops, Op{Participant: participant, Do: "put", Key: key + strings.Repeat("x", bulkKeyBytes-len(key))})
	}
	return ops
}
