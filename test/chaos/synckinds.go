//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/concordat-tx/concordat/test/chaos/place"
)

// syncKinds: a sync fails, which is final (P15), or the process dies in it:
// what was to become durable was written and perhaps is not.
var syncKinds = []Kind{
	{Name: "sync-error-node", Class: Tracing, Hold: hold(50, 500), Cheap: true, strike: breakSync(nodeRole, place.FailNthSync)},
	{Name: "sync-error-participant", Class: Tracing, Hold: hold(50, 500), strike: breakSync(participantRole, place.FailNthSync)},
	{Name: "sync-kill-node", Class: Tracing, Hold: hold(50, 500), strike: breakSync(nodeRole, place.KillNthSync)},
	{Name: "sync-kill-participant", Class: Tracing, Hold: hold(50, 500), Cheap: true, strike: breakSync(participantRole, place.KillNthSync)},
}

// maxNth sync of a thread is the latest that meets its fault: a few of a
// second's, since the tracer slows the process down.
const maxNth = 6

func breakSync(who role, what string) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		nth := 1 + r.IntN(maxNth)
		if err != nil {
			return nil, err
		}
		s.mayEnd(target)
		p := s.process(target)
		trace, err := place.TraceSyncs(p.PID(), fmt.Sprintf(what, nth), filepath.Join(s.dir, fmt.Sprintf("%s.%d.strace", target, p.PID())))
		if err != nil {
			return nil, err
		}
		return &blow{
			target: target,
			seen: func(context.Context) (string, error) {
				if p.Running() {
					return "", nil
				}
				if what == place.KillNthSync {
					if !diedOf(p.Wait(), syscall.SIGKILL) {
						return "", fmt.Errorf("%s did not die in its sync: %w", target, p.Wait())
					}
					return fmt.Sprintf("killed in sync %d of a thread", nth), nil
				}
				injected, err := trace.Injected()
				if err != nil || injected == 0 {
					return "", errors.Join(err, fmt.Errorf("%s ended although no sync failed: %w", target, p.Wait()))
				}
				return fmt.Sprintf("it ended after %d failed syncs: %v", injected, p.Wait()), nil
			},
			heal: func(context.Context) error {
				trace.Detach()
				return s.startAgain([]string{target})
			},
		}, nil
	}
}

func diedOf(err error, sig syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == sig
}
