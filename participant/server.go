package participant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/lazy"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Server is the runtime of one participant: it serves concordat.v1.Participant
// over a ResourceManager. Make it with Open and end it with Close.
type Server struct {
	pb.UnimplementedParticipantServer

	cfg     Config
	log     hclog.Logger
	rm      ResourceManager
	fence   *fence
	locks   *keyLock
	doubt   *doubtSet
	alerts  *alerts
	metrics *metrics
	deliver *deliveries
	asker   *asker

	forgetNow chan struct{} // room for one
	stop      context.CancelFunc
	loops     sync.WaitGroup
	closing   sync.Once
}

var _ pb.ParticipantServer = (*Server)(nil)

// Open reads from the resource manager whose data these are and which branches
// are held, and starts to ask the cluster about them. It tries again while the
// resource manager's errors are transient, until ctx ends; ctx does not bound
// the Server's life.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	var id Identity
	var held []Held
	err := retryTransient(ctx, func() (err error) {
		if id, err = cfg.ResourceManager.Identity(ctx); err != nil {
			return fmt.Errorf("participant %s: read the identity of its data: %w", cfg.Name, err)
		}
		if held, err = cfg.ResourceManager.Held(ctx); err != nil {
			return fmt.Errorf("participant %s: list its prepared branches: %w", cfg.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if id.Incarnation == "" {
		return nil, fmt.Errorf("participant %s: its data have no incarnation: the resource manager must make one with them", cfg.Name)
	}
	return start(cfg, id, held)
}

func start(cfg Config, id Identity, held []Held) (*Server, error) {
	log := cfg.Logger.With("participant", cfg.Name)
	s := &Server{
		cfg: cfg, log: log, rm: cfg.ResourceManager,
		fence:     newFence(cfg.Name, cfg.ResourceManager, id),
		locks:     newKeyLock(),
		doubt:     newDoubtSet(cfg.InquiryDelay),
		asker:     &asker{cluster: cfg.Cluster},
		forgetNow: make(chan struct{}, 1),
	}
	s.metrics = newMetrics(cfg.Name, s.doubt)
	var err error
	s.alerts, err = newAlerts(cfg, log, s.metrics, s.doubt, func() string { return s.fence.binding.Load().ClusterID })
	if err != nil {
		return nil, err
	}
	if err := s.metrics.register(cfg.Metrics); err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.deliver = newDeliveries(life, s)
	now := time.Now()
	for _, h := range held {
		s.doubt.add(h.Ref, now, now)
	}
	if len(held) > 0 {
		log.Info("prepared branches are in doubt, asking the cluster", "branches", len(held))
	}
	s.alerts.takeOver(held)
	if s.alerts.webhook != nil {
		s.loops.Go(func() { alerting.Run(life, s.notify()) })
	}
	s.loops.Go(func() { s.inquireLoop(life) })
	if db, ok := s.rm.(Database); ok {
		s.loops.Go(func() { s.watchInstance(life, db) })
	}
	s.loops.Go(func() { s.forgetLoop(life) })
	return s, nil
}

// Close stops everything that the Server does by itself and waits for it. Stop
// the gRPC server before, and close the resource manager after it.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.stop()
		s.loops.Wait()
		s.deliver.close()
		if s.alerts.webhook != nil {
			s.alerts.webhook.Close()
		}
		s.metrics.unregister(s.cfg.Metrics)
	})
}

// Prepare does the work of one branch and votes (P5). An error is no vote.
func (s *Server) Prepare(ctx context.Context, req *pb.PrepareRequest) (*pb.PrepareResponse, error) {
	began := time.Now()
	v, err := s.enter(ctx, req)
	if err != nil {
		return nil, err
	}
	defer v.leave()
	vote, err := s.vote(v.ctx, v.work)
	if err != nil {
		return nil, err
	}
	s.metrics.voted(vote, began)
	return &pb.PrepareResponse{
		Branch: v.work.proto(s.cfg.Name), Vote: vote.Kind, Result: vote.Result, Incarnation: s.fence.identity.Incarnation,
		Reason: s.reason(vote),
	}, nil
}

// visit is one call that may do the work of a branch: its id is locked until it leaves.
type visit struct {
	ctx    context.Context // ends with the budget, and with a Rollback of the branch
	work   Work
	cancel context.CancelFunc
	unlock func()
}

func (v *visit) leave() {
	if v.unlock != nil {
		v.unlock()
	}
	v.cancel()
}

// enter is what stands before the work of a branch: the request is read, its
// fence admitted, and the id locked.
func (s *Server) enter(ctx context.Context, req workRequest) (v visit, err error) {
	if v.work, err = s.readWork(req); err != nil {
		return visit{}, err
	}
	v.ctx, v.cancel = lazy.WithTimeout(ctx, budget(ctx, req.GetBudgetMs()))
	if err := s.admitWork(&v, req.GetFence()); err != nil {
		v.leave()
		return visit{}, err
	}
	return v, nil
}

func (s *Server) admitWork(v *visit, f *pb.Fence) (err error) {
	if err := s.fence.admit(v.ctx, f, true); err != nil {
		return err
	}
	s.heard()
	if v.unlock, err = s.locks.lockPrepare(v.ctx, v.cancel, v.work.Ref); err != nil {
		return fmt.Errorf("another message of transaction %s is at work: %w", v.work.ID, err)
	}
	if err := context.Cause(v.ctx); err != nil {
		return fmt.Errorf("transaction %s: the work is of no use any more: %w", v.work.ID, err)
	}
	return s.fence.belowFloor(v.work.Ref)
}

// reason is why a vote is ABORTED, on the wire.
func (s *Server) reason(v Vote) *pb.Reason {
	if v.Kind != pb.Vote_VOTE_ABORTED {
		return nil
	}
	return &pb.Reason{Code: v.Code, Participant: s.cfg.Name, Message: cut(v.Message, fsm.MaxReasonBytes)}
}

// Commit makes a branch final and acknowledges that it is.
func (s *Server) Commit(ctx context.Context, req *pb.CommitRequest) (*pb.SettleResponse, error) {
	return s.settleRequest(ctx, req.GetFence(), req.GetBranch(), commit, s.callSettle)
}

// Rollback undoes a branch, or makes sure that it can never be prepared.
func (s *Server) Rollback(ctx context.Context, req *pb.RollbackRequest) (*pb.SettleResponse, error) {
	if req.GetOnePhase() {
		return s.withdraw(ctx, req)
	}
	return s.settleRequest(ctx, req.GetFence(), req.GetBranch(), rollback, s.callSettle)
}

func (s *Server) settleRequest(ctx context.Context, f *pb.Fence, b *pb.BranchRef, d decision, do settling) (*pb.SettleResponse, error) {
	began := time.Now()
	ref, err := s.readRef(f, b)
	if err != nil {
		return nil, err
	}
	if err := s.fence.admit(ctx, f, false); err != nil {
		return nil, err
	}
	s.heard()
	st, err := s.settle(ctx, ref, d, do)
	if err != nil {
		if rpc.ReasonOf(err) != rpc.ReasonOtherHeld && d != withdrawal { // which the leader repeats until it hears
			s.deliver.again(ref, d)
		}
		return nil, err
	}
	s.metrics.settling.Observe(time.Since(began).Seconds())
	return &pb.SettleResponse{Branch: ref.proto(s.cfg.Name), Settled: st.Settled, Message: cut(st.Message, fsm.MaxReasonBytes)}, nil
}

// Describe says who this is. It checks no fence and changes nothing, so that
// anybody may find out whose data these are.
func (s *Server) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	b := s.fence.binding.Load()
	prepared, oldest := s.doubt.oldest(time.Now())
	var now, bound string
	if db, ok := s.rm.(Database); ok {
		now, bound = db.Instance()
	}
	_, onePhase := s.rm.(OnePhase)
	return &pb.DescribeResponse{
		OnePhase: onePhase,
		Instance: now, BoundInstance: bound,
		Name: s.cfg.Name, Kind: s.fence.identity.Kind, Incarnation: s.fence.identity.Incarnation,
		ClusterId: b.ClusterID, Generation: b.Generation, Term: b.Term,
		Prepared: uint32(prepared), OldestPreparedSeconds: oldest.Seconds(), Alerts: s.alerts.list(),
	}, nil
}

// budget is what a Prepare may take, besides the call's own deadline. 0 is less
// than a millisecond, or a caller that leaves it to the deadline: without one
// it is a millisecond.
func budget(ctx context.Context, ms uint32) time.Duration {
	if ms > 0 {
		return min(time.Duration(ms)*time.Millisecond, fsm.MaxTimeout)
	}
	if _, bounded := ctx.Deadline(); bounded {
		return fsm.MaxTimeout
	}
	return time.Millisecond
}

// cut shortens text to at most limit bytes, at a rune's border.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && text[limit]&0xC0 == 0x80 {
		limit--
	}
	return text[:limit]
}
