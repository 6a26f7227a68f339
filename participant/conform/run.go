package conform

import (
	"context"
	"errors"
	"sync"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Run holds a participant against every chosen check and reports how each came
// out. An error says that it could not be done: bad configuration (an
// INVALID_ARGUMENT), nobody at the endpoint (UNREACHABLE), data that belong to
// a cluster, or the end of ctx. Run ends the Process and closes the Listener.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if cfg.Listener != nil {
		defer func() { _ = cfg.Listener.Close() }() // the server has closed it already, if it ran
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.meet(ctx); err != nil {
		return nil, err
	}
	// Served only now: the desk must know who asks, and a participant that
	// starts without its cluster is to get on as well.
	stop := s.serve()
	defer stop()
	report = &Report{Endpoint: cfg.Endpoint, Name: s.name, Kind: s.kind, Incarnation: s.incarnation}
	for _, group := range inGroups(cfg.chosen()) {
		for _, result := range s.runGroup(ctx, group) {
			if ctx.Err() != nil {
				return report, context.Cause(ctx)
			}
			report.add(result)
			if cfg.Progress != nil {
				cfg.Progress(result)
			}
		}
	}
	return report, nil
}

// serve answers as the cluster until stop is called.
func (s *session) serve() (stop func()) {
	if s.cfg.Listener == nil {
		return func() {}
	}
	server := rpc.NewServer(rpc.ServerOptions{})
	pb.RegisterCoordinatorServer(server, s.desk)
	pb.RegisterClusterServer(server, s.desk)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(s.cfg.Listener) }) // ends with Stop
	return func() {
		server.Stop()
		serving.Wait()
	}
}

// inGroups puts checks that follow each other and wait for the participant's
// own doing together, so that they wait side by side.
func inGroups(list []check) [][]check {
	var groups [][]check
	for _, c := range list {
		last := len(groups) - 1
		if c.together && last >= 0 && groups[last][0].together {
			groups[last] = append(groups[last], c)
			continue
		}
		groups = append(groups, []check{c})
	}
	return groups
}

// runGroup makes the checks of one group side by side.
func (s *session) runGroup(ctx context.Context, group []check) []Result {
	results := make([]Result, len(group))
	var wg sync.WaitGroup
	for i, c := range group {
		wg.Go(func() { results[i] = s.runCheck(ctx, c) })
	}
	wg.Wait()
	return results
}

// runCheck makes one check and leaves none of its branches prepared.
func (s *session) runCheck(ctx context.Context, c check) Result {
	result := Result{Check: c.Name, Rule: c.Rule, Status: Pass}
	if why := s.missing(c); why != "" {
		result.Status, result.Note = Skip, why
		return result
	}
	t := &trial{session: s, ctx: ctx, open: map[ref]branch{}}
	defer t.cleanUp()
	f, skipped := t.attemptCheck(c)
	if ended := t.revive(); ended != nil {
		f = &failure{"the messages of this check", "that the participant goes on", "its end: " + ended.Error()}
	}
	switch {
	case f != nil:
		result.Status, result.Sent, result.Expected, result.Got, result.Why = Fail, f.sent, f.expected, f.got, c.Why
	case skipped != "":
		result.Status, result.Note = Skip, skipped
	default:
		result.Note = s.cfg.unseen()
	}
	return result
}

// attemptCheck runs c to its end, which a failure or skip makes early.
func (t *trial) attemptCheck(c check) (f *failure, skipped string) {
	defer func() {
		switch end := recover().(type) {
		case nil:
		case *failure:
			f = end
		case skip:
			skipped = string(end)
		default:
			panic(end)
		}
	}()
	c.run(t)
	return nil, ""
}
