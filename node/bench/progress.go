package bench

import (
	"sync"
	"time"
)

// progressEvery is how often Progress is told.
const progressEvery = time.Second

// Progress is how the load goes. The figures are of the time since the one before.
type Progress struct {
	// Elapsed is since the load began, Planned how long it will take.
	Elapsed, Planned time.Duration
	// Warmup: nothing is measured yet. Draining: the load has ended, and what was
	// under way goes on.
	Warmup, Draining bool
	// CommitsPerSecond and ReadsPerSecond ended; their latency has these quantiles.
	CommitsPerSecond, ReadsPerSecond float64
	P50, P99                         time.Duration
	// Aborts, Failed (refusals and reads), Unknown and Retries are counts.
	Aborts, Failed, Unknown, Retries int64
	// Begun is how many operations were begun, or due, since the load began;
	// UnderWay and Backlog are how many are on their way or waiting now; Overflow
	// how many found the backlog full since the load began.
	Begun    uint64
	UnderWay int64
	Backlog  int
	Overflow int64
}

// watch tells Progress once a second until the function it returns is called.
func (r *run) watch() (done func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		last, now := time.Now(), newRecent()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			r.recorder.cut(now)
			r.cfg.Progress(r.progress(now, time.Since(last)))
			last = time.Now()
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}

func (r *run) progress(now *recent, d time.Duration) Progress {
	p := Progress{
		Elapsed: time.Since(r.start), Planned: r.cfg.Warmup + r.cfg.Duration,
		CommitsPerSecond: float64(now.ends[committed]) / d.Seconds(), ReadsPerSecond: float64(now.ends[wasRead]) / d.Seconds(),
		P50:    time.Duration(now.latency.ValueAtQuantile(50)) * time.Microsecond,
		P99:    time.Duration(now.latency.ValueAtQuantile(99)) * time.Microsecond,
		Aborts: now.ends[aborted], Failed: now.ends[failed] - now.unknown, Unknown: now.unknown, Retries: now.retries,
		Begun: r.sequence.Load(), UnderWay: r.underWay.Load(),
	}
	p.Warmup = p.Elapsed < r.cfg.Warmup
	p.Draining = int64(p.Elapsed) > r.to.Load()
	if r.backlog != nil {
		p.Backlog, p.Overflow = r.backlog.depth(), r.backlog.overflow.Load()
	}
	return p
}
