package alerting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
)

const (
	// DefaultRepeat is how often a standing alert is told again. A receiver keeps
	// alerts in memory only, so this is also how long one that was restarted does
	// not know of them; it is what Prometheus itself does. How often people are
	// reminded is the receiver's own matter.
	DefaultRepeat = time.Minute
	minRepeat     = 100 * time.Millisecond
	maxRepeat     = 24 * time.Hour

	// lookEvery is how often a Book is looked at that says nothing.
	lookEvery = time.Second
	// A receiver that fails is tried again after 250 ms, doubling to 15 s.
	retryMin = 250 * time.Millisecond
	retryMax = 15 * time.Second
)

// The results of a POST, for counting.
const (
	ResultTaken   = "taken"
	ResultRefused = "refused" // the receiver says that the request is wrong
	ResultFailed  = "failed"
)

// Results are all of them.
var Results = []string{ResultTaken, ResultRefused, ResultFailed}

// CheckRepeat returns a *fsm.FieldError for an interval out of bounds.
func CheckRepeat(field string, d time.Duration) error {
	if d < minRepeat || d > maxRepeat {
		return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("%v to %v", minRepeat, maxRepeat), Got: d.String()}
	}
	return nil
}

// Book is what a Notifier tells from. Its List and Told are called by one
// goroutine.
type Book interface {
	// List is every alert that stands, or is over without having been told.
	// What it returns is durable if the Book is.
	List() []Item
	// Told notes items that the receiver has taken, each in the state that it
	// was listed in: Raised becomes Told, Over is dropped. One that has moved on
	// since is left. If it fails it is called again.
	Told(ctx context.Context, items []Item) error
	// Changed gets a value when List may say something new.
	Changed() <-chan struct{}
}

// Config is what a Notifier needs.
type Config struct {
	Webhook *Webhook
	Book    Book
	// Repeat is how often a standing alert is told again.
	Repeat time.Duration
	// GeneratorURL is where more can be seen; may be empty.
	GeneratorURL string
	Logger       hclog.Logger
	// Confirm is asked before each POST whether the Book is still this
	// process's to tell from; nil: it is.
	Confirm func(context.Context) error
	// Count counts POSTs by result.
	Count func(result string)
}

// Run tells what the Book says until ctx ends; a POST that is under way then is
// given up. One POST is under way at a time.
func Run(ctx context.Context, cfg Config) {
	n := &notifier{cfg: cfg, heard: map[identity]*hearing{}}
	n.delays = &backoff.ExponentialBackOff{
		InitialInterval: retryMin, RandomizationFactor: 0.25, Multiplier: 2, MaxInterval: retryMax,
	}
	n.delays.Reset()
	for ctx.Err() == nil {
		n.pass(ctx)
		n.rest(ctx)
	}
}

// hearing is what the receiver has taken of one alert from this notifier.
type hearing struct {
	// fired is when it was last told that it stands; for one that others told,
	// when it was first seen here.
	fired time.Time
	// told that it stands, and that it is over.
	told, over bool
}

type notifier struct {
	cfg    Config
	heard  map[identity]*hearing
	delays *backoff.ExponentialBackOff
	// until then nothing is posted: the last POST failed or was not confirmed.
	until   time.Time
	trouble string // the result that was last logged
}

// pass tells what is due now.
func (n *notifier) pass(ctx context.Context) {
	due, told := n.due(n.cfg.Book.List(), time.Now())
	if len(told) > 0 {
		n.note(ctx, told) // what could not be noted when it was taken
	}
	for len(due) > 0 && ctx.Err() == nil && !time.Now().Before(n.until) {
		batch := due[:min(len(due), maxPost)]
		due = due[len(batch):]
		if !n.tell(ctx, batch) {
			return
		}
	}
}

// due sorts out what has to be posted, and what was taken and only has to be noted.
func (n *notifier) due(items []Item, now time.Time) (due, told []Item) {
	present := make(map[identity]*hearing, len(items))
	for _, i := range items {
		h := n.heard[i.identity()]
		if h == nil {
			h = &hearing{}
		}
		present[i.identity()] = h
		switch i.State {
		case Raised:
			switch {
			case !h.told:
				due = append(due, i)
			default:
				told = append(told, i)
			}
		case Told:
			if h.fired.IsZero() {
				h.fired, h.told = now, true
			}
		case Over:
			if h.over {
				told = append(told, i)
			} else {
				due = append(due, i)
			}
		}
		if i.Standing() && h.told && now.Sub(h.fired) >= n.cfg.Repeat {
			due = append(due, i)
		}
	}
	n.heard = present
	return due, told
}

// tell posts a batch and notes that it was taken.
func (n *notifier) tell(ctx context.Context, batch []Item) bool {
	if n.cfg.Confirm != nil && n.cfg.Confirm(ctx) != nil {
		// Looked at again later, if it is still ours then: what is due is due at
		// every look meanwhile.
		n.until = time.Now().Add(lookEvery)
		return false
	}
	now := time.Now()
	body, err := encode(batch, now, n.cfg.Repeat, n.cfg.GeneratorURL)
	if err == nil {
		err = n.cfg.Webhook.post(ctx, body)
	}
	if err != nil {
		n.failed(ctx, err)
		return false
	}
	n.cfg.Count(ResultTaken)
	n.delays.Reset()
	if n.trouble != "" {
		n.cfg.Logger.Info("the alert webhook takes alerts again", "webhook", n.cfg.Webhook.String())
		n.trouble = ""
	}
	for _, i := range batch {
		h := n.heard[i.identity()]
		h.fired, h.told = now, true
		h.over = i.State == Over
	}
	n.note(ctx, batch)
	return true
}

// failed puts the next POST off, and says so once.
func (n *notifier) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	n.until = time.Now().Add(n.delays.NextBackOff())
	result := ResultFailed
	var refused *refusedError
	if errors.As(err, &refused) {
		result = ResultRefused
	}
	n.cfg.Count(result)
	if n.trouble == result {
		return
	}
	n.trouble = result
	log := n.cfg.Logger.With("webhook", n.cfg.Webhook.String(), "error", err)
	if result == ResultRefused {
		log.Error("the alert webhook refuses what it is sent: put its URL or the receiver's configuration right; it is tried again")
		return
	}
	log.Warn("the alert webhook did not take the alerts; it is tried again until it does")
}

// note tells the Book. What it did not take in is noted at the next pass.
func (n *notifier) note(ctx context.Context, items []Item) {
	changed := items[:0:0]
	for _, i := range items {
		if i.State != Told {
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return
	}
	if err := n.cfg.Book.Told(ctx, changed); err != nil && ctx.Err() == nil {
		n.cfg.Logger.Warn("that alerts were told could not be noted; it is tried again", "error", err)
	}
}

// rest waits until there may be something to do.
func (n *notifier) rest(ctx context.Context) {
	now := time.Now()
	wait := lookEvery
	for _, h := range n.heard {
		if h.told && !h.over {
			wait = min(wait, n.cfg.Repeat-now.Sub(h.fired))
		}
	}
	if back := n.until.Sub(now); back > 0 {
		// The receiver gets its pause, whatever changes; but the Book is listed then,
		// so that it keeps what has changed should the process end in the pause.
		wait = back
	}
	timer := time.NewTimer(max(wait, time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-n.cfg.Book.Changed():
	}
}
