package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestBadUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		stderr string
	}{
		"unknown noun":            {[]string{"frobnicate"}, `no command "frobnicate"`},
		"misspelt verb":           {[]string{"tx", "submitt"}, "did you mean submit"},
		"unknown flag":            {[]string{"tx", "get", "a", "--frob"}, "--frob"},
		"flag of another type":    {[]string{"tx", "list", "--limit", "many"}, "--limit"},
		"missing argument":        {[]string{"tx", "get"}, "accepts 1 arg"},
		"argument too many":       {[]string{"version", "x"}, "unknown command"},
		"unknown output":          {[]string{"version", "-o", "xml"}, "table or json"},
		"no branch":               {[]string{"tx", "submit"}, "--branch"},
		"branch without payload":  {[]string{"tx", "submit", "--branch", "seats"}, "--branch seats: must be NAME=JSON"},
		"branch without name":     {[]string{"tx", "submit", "--branch", "={}"}, "--branch"},
		"payload is not JSON":     {[]string{"tx", "submit", "--branch", "seats={"}, "--branch seats={"},
		"branch and file":         {[]string{"tx", "submit", "--branch", "a={}", "-f", "x"}, "--file"},
		"no such file":            {[]string{"tx", "submit", "-f", "/no/such/file"}, "--file"},
		"unknown wait":            {[]string{"tx", "submit", "--branch", "a={}", "--wait", "forever"}, "--wait"},
		"no deadline":             {[]string{"tx", "get", "a", "--deadline", "0s"}, "--deadline"},
		"bad node address":        {[]string{"tx", "get", "a", "--nodes", "nowhere"}, "--nodes"},
		"unknown state":           {[]string{"tx", "list", "--state", "limbo"}, "--state"},
		"resolve what":            {[]string{"tx", "resolve", "a"}, "--give-up"},
		"resolve both":            {[]string{"tx", "resolve", "a", "--give-up", "b", "--acknowledge"}, "--give-up"},
		"add without endpoint":    {[]string{"participants", "add", "a"}, "--endpoint"},
		"server without id":       {[]string{"server"}, "--id"},
		"server without data":     {[]string{"server", "--id", "a"}, "--data-dir"},
		"server without peers":    {[]string{"server", "--id", "a", "--data-dir", "d"}, "--peers"},
		"server not among peers":  {[]string{"server", "--id", "a", "--data-dir", "d", "--peers", "b=127.0.0.1:1"}, "--peers"},
		"peer without address":    {[]string{"server", "--id", "a", "--data-dir", "d", "--peers", "a"}, "--peers"},
		"peer with a bad address": {[]string{"server", "--id", "a", "--data-dir", "d", "--peers", "a=x"}, "--peers"},
		"unknown log level":       {[]string{"server", "--id", "a", "--log-level", "loud"}, "--log-level"},
		"participant's name":      {[]string{"participant", "kv", "--name", "Seats!"}, "--name"},
		"participant's data":      {[]string{"participant", "kv", "--name", "seats"}, "--data-dir"},
		"participant's address":   {[]string{"participant", "kv", "--name", "a", "--data-dir", "d", "--advertise", "x"}, "--advertise"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, "", tc.args...).want(t, exitUsage, tc.stderr, "--help")
			if r.stdout != "" {
				t.Errorf("stdout has %q", r.stdout)
			}
		})
	}
}

func TestServerLimitsOutOfBounds(t *testing.T) {
	for _, flag := range []string{
		"--max-in-flight=0", "--max-in-flight-bytes=1", "--max-undelivered=-1", "--max-branches=65", "--max-payload-bytes=100000000",
		"--max-transaction-bytes=0", "--retention=-1s", "--retention-count=-1", "--alert-after=0s", "--disk-reserve=2",
	} {
		t.Run(flag, func(t *testing.T) {
			run(t, "", "server", "--id", "n1", "--data-dir", t.TempDir(), "--peers", "n1="+freeAddress(t),
				"--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", flag).want(t, exitUsage)
		})
	}
}

func TestOpenAddressesNeedInsecure(t *testing.T) {
	for _, flag := range []string{"--listen", "--raft-listen", "--http-listen"} {
		t.Run(flag, func(t *testing.T) {
			run(t, "", "server", "--id", "n1", "--data-dir", t.TempDir(), "--peers", "n1="+freeAddress(t),
				"--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", flag, "0.0.0.0:0").want(t, exitError, flag, "--insecure")
		})
	}
	for _, flag := range []string{"--listen", "--metrics-listen"} {
		t.Run("participant "+flag, func(t *testing.T) {
			run(t, "", "participant", "kv", "--name", "a", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", flag, "0.0.0.0:0").
				want(t, exitError, flag, "--insecure")
		})
	}
	run(t, "", "participant", "kv", "--name", "a", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--insecure", "--register").
		want(t, exitUsage, "--advertise")
}

func TestNobodyAnswers(t *testing.T) {
	t.Setenv(nodesVariable, freeAddress(t)+", "+freeAddress(t))
	for _, args := range [][]string{
		{"tx", "submit", "--branch", "a={}"}, {"tx", "get", "a"}, {"tx", "list"}, {"tx", "abort", "a"},
		{"participants", "list"}, {"cluster", "status"}, {"kv", "get", "a", "b"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			run(t, "", append(args, "--deadline", "200ms")...).want(t, exitUnavailable, "connection refused")
		})
	}
}

func TestVersion(t *testing.T) {
	if r := run(t, "", "version").want(t, exitDone); !strings.HasPrefix(r.stdout, "concordat ") {
		t.Errorf("got %q", r.stdout)
	}
	if v := run(t, "", "version", "-o", "json").want(t, exitDone).json(t); v["go"] == "" || v["version"] == "" {
		t.Errorf("got %v", v)
	}
}

func TestExitStatusOfErrors(t *testing.T) {
	a := &app{stderr: io.Discard}
	for reason, want := range map[rpc.ErrorReason]int{
		rpc.ReasonInvalidArgument: exitError, rpc.ReasonIDReused: exitError, rpc.ReasonNotFound: exitError,
		rpc.ReasonExpired: exitError, rpc.ReasonParticipantUnknown: exitError, rpc.ReasonInternal: exitError,
		rpc.ReasonNoLeader: exitUnavailable, rpc.ReasonNotReady: exitUnavailable, rpc.ReasonOverloaded: exitUnavailable,
		rpc.ReasonParticipantUnavailable: exitUnavailable, rpc.ReasonOutcomeUnknown: exitUnavailable,
		rpc.ReasonDeadline: exitUnavailable, rpc.ReasonConnectionLost: exitUnavailable, rpc.ReasonLocked: exitUnavailable,
	} {
		if got := a.report(nil, rpc.Errorf(reason, "x")); got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
	}
	if got := a.report(nil, errors.New("x")); got != exitError {
		t.Errorf("a plain error: %d", got)
	}
}

// lonely is a node that answers what it is told to, to show what the command
// line makes of answers that a healthy cluster gives rarely.
type lonely struct {
	pb.UnimplementedCoordinatorServer
	pb.UnimplementedClusterServer
	submit func(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error)
}

func (l *lonely) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{AppliedIndex: 7, Node: "n1", Nodes: []*pb.NodeInfo{{Id: "n1"}, {Id: "n2"}}}, nil
}

func (l *lonely) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
	return l.submit(ctx, req)
}

func startLonely(t *testing.T, l *lonely) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(rpc.ServerOptions{Logger: hclog.NewNullLogger()})
	pb.RegisterCoordinatorServer(s, l)
	pb.RegisterClusterServer(s, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(listener)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	t.Setenv(nodesVariable, listener.Addr().String())
}

func TestUnknownOutcomePrintsTheID(t *testing.T) {
	ids := make(chan string, 1)
	startLonely(t, &lonely{submit: func(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
		select {
		case ids <- req.GetId():
		default:
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	r := run(t, "", "tx", "submit", "--branch", "seats={}", "--deadline", "500ms").want(t, exitUnavailable, "not known")
	id := <-ids
	if !strings.Contains(r.stderr, "--id "+id+" --since 7") || !strings.Contains(r.stderr, "tx abort "+id+" --since 7") {
		t.Errorf("stderr does not say how to settle %s: %s", id, r.stderr)
	}
}

func TestCompletedThatEndsEarlyIsDone(t *testing.T) {
	startLonely(t, &lonely{submit: func(_ context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{
			Id: req.GetId(), Outcome: pb.Outcome_COMMIT, State: pb.State_STATE_COMMITTING, Pending: []string{"seats", "payments"},
		}, nil
	}})
	run(t, "", "tx", "submit", "--branch", "seats={}", "--wait", "completed").want(t, exitDone, "seats, payments")
	if r := run(t, "", "tx", "submit", "--branch", "seats={}").want(t, exitDone); r.stderr != "" {
		t.Errorf("nobody asked to wait, yet stderr has %q", r.stderr)
	}
}

func TestNoRetryReturnsTheConflict(t *testing.T) {
	tries := 0
	startLonely(t, &lonely{submit: func(_ context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
		if tries++; tries > 1 {
			return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_COMMIT}, nil
		}
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_ABORT, Reason: &pb.Reason{Code: pb.Reason_CONFLICT}}, nil
	}})
	run(t, "", "tx", "submit", "--branch", "seats={}", "--no-retry").want(t, exitAborted, "CONFLICT")
	tries = 0
	if r := run(t, "", "tx", "submit", "--branch", "seats={}", "--id", "a", "-o", "json").want(t, exitDone); r.json(t)["id"] != rpc.DerivedID("a", 1) {
		t.Errorf("got %s", r.stdout)
	}
}

func TestResultsThatAreNotJSONAreMarked(t *testing.T) {
	startLonely(t, &lonely{submit: func(_ context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_COMMIT, Branches: []*pb.BranchStatus{
			{Participant: "json", Result: []byte(`{"a":12345678901234567890}`)},
			{Participant: "bytes", Result: []byte("\x1b[2Jhi")},
			{Participant: "gone", ResultUnavailable: true},
		}}, nil
	}})
	r := run(t, "", "tx", "submit", "--branch", "json={}", "-o", "json").want(t, exitDone)
	if !strings.Contains(r.stdout, `12345678901234567890`) || !strings.Contains(r.stdout, `"result_base64": "G1sySmhp"`) {
		t.Errorf("got %s", r.stdout)
	}
	r = run(t, "", "tx", "submit", "--branch", "json={}").want(t, exitDone)
	if strings.Contains(r.stdout, "\x1b") || !strings.Contains(r.stdout, "(unavailable)") {
		t.Errorf("got %q", r.stdout)
	}
}

func TestStatusShowsMembersWithoutAddress(t *testing.T) {
	startLonely(t, &lonely{})
	if r := run(t, "", "cluster", "status").want(t, exitDone); !strings.Contains(r.stdout, "n2") {
		t.Errorf("got %s", r.stdout)
	}
}

func TestParticipantServesMetrics(t *testing.T) {
	addr := freeAddress(t)
	start(t, "participant", "kv", "--name", "seats", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--metrics-listen", addr)
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	eventually(t, "metrics are served", func() bool {
		resp, err := client.Get("http://" + addr + "/metrics")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), `concordat_kv_locks{participant="seats"} 0`) &&
			strings.Contains(string(text), "concordat_participant_prepared")
	})
}
