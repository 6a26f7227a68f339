package cluster

import (
	"runtime"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// failure is the end of a replica: the first error that must stop the process
// (P15). While the replica is being opened the error is returned by Open;
// afterwards it is logged and handed to Config.Fatal.
type failure struct {
	log   hclog.Logger
	fatal func(error)
	dead  chan struct{} // closed by the first failure

	mu      sync.Mutex
	err     error
	serving bool
}

func newFailure(log hclog.Logger, fatal func(error)) *failure {
	return &failure{log: log, fatal: fatal, dead: make(chan struct{})}
}

// serve ends the opening phase, unless it failed already.
func (f *failure) serve() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serving = f.err == nil
	return f.err
}

// report notes the first error and stops the process if the replica serves.
// It reports whether the caller may still return to the code that called it,
// which is so only while the replica is being opened.
func (f *failure) report(err error) (opening bool) {
	f.mu.Lock()
	first := f.err == nil
	if first {
		f.err = err
		close(f.dead)
	}
	serving := f.serving
	f.mu.Unlock()
	if !serving {
		return true
	}
	if first {
		f.log.Error("this node stops", "error", err)
		f.fatal(err)
	}
	return false
}

// stop reports err and, once the replica serves, does not return: code that
// met a broken file must not go on, even where Config.Fatal comes back.
// Deferred functions of the goroutine still run.
func (f *failure) stop(err error) {
	if !f.report(err) {
		runtime.Goexit()
	}
}

func (f *failure) error() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
