package python

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// world is a cluster with a KV participant "seats" and the Python one, "python".
type world struct {
	*local.Cluster
	t        *testing.T
	client   *rpc.Client
	python   *local.Process
	endpoint string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	c, err := local.Start(within(t, 60*time.Second), local.Config{Binary: binary, Dir: dir, Nodes: 3, Participants: []string{"seats"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
	})
	w := &world{Cluster: c, t: t, endpoint: freeAddress(t)}
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	nodes := strings.Join(c.Addresses(), ",")
	w.python = local.NewProcess("python", python, dir, []string{
		filepath.Join(example, "participant.py"), "--listen", w.endpoint, "--data", filepath.Join(dir, "python.db"), "--nodes", nodes,
	}, environment(t))
	if err := w.python.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.python.Kill() }) // it may be dead already
	w.eventually("python registers", func() bool {
		_, err := w.client.AddParticipant(within(t, 5*time.Second), &pb.AddParticipantRequest{Name: "python", Endpoints: []string{w.endpoint}})
		return err == nil
	})
	return w
}

// eventually polls a condition that other processes bring about.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

// submit adds delta to the same key in both participants; seats must stay at 0 or more.
func (w *world) submit(id, key string, delta string) (*pb.TransactionResponse, error) {
	w.t.Helper()
	op := `{"ops":[{"op":"add","key":"` + key + `","delta":` + delta
	return w.client.Submit(within(w.t, 60*time.Second), &pb.SubmitRequest{
		Id: id, Wait: pb.Wait_COMPLETED, Timeout: durationpb.New(30 * time.Second), Branches: []*pb.Branch{
			{Participant: "python", Payload: []byte(op + `},{"op":"get","key":"` + key + `"}]}`)},
			{Participant: "seats", Payload: []byte(op + `,"min":0}]}`)},
		},
	})
}

// values are what both participants have committed for a key.
func (w *world) values(key string) (python, seats int64) {
	w.t.Helper()
	get := []byte(`{"ops":[{"op":"get","key":"` + key + `"}]}`)
	var got [2]int64
	w.eventually("both can be read", func() bool {
		r, err := w.client.Submit(within(w.t, 30*time.Second), &pb.SubmitRequest{
			Branches: []*pb.Branch{{Participant: "python", Payload: get}, {Participant: "seats", Payload: get}},
		})
		if err != nil || r.GetOutcome() != pb.Outcome_COMMIT {
			return false // python votes CONFLICT while a branch is prepared
		}
		for i := range got {
			results, err := kvop.ParseResults(r.GetBranches()[i].GetResult())
			if err != nil || len(results) != 1 {
				w.t.Fatalf("result %q: %v", r.GetBranches()[i].GetResult(), err)
			}
			got[i], _ = results[0].Value.Number() // 0 where it does not exist
		}
		return true
	})
	return got[0], got[1]
}

func (w *world) want(key string, want int64) {
	w.t.Helper()
	if python, seats := w.values(key); python != want || seats != want {
		w.t.Errorf("%s is %d in python and %d in seats, want %d in both", key, python, seats, want)
	}
}

var votesLine = regexp.MustCompile(`(?m)^concordat_votes_total\{[^}]*participant="python",[^}]*vote="VOTE_PREPARED"[^}]*\} (\d+)`)

// votes is how many PREPARED of python the nodes have heard.
func (w *world) votes() (n int) {
	w.t.Helper()
	for _, node := range w.Nodes {
		resp, err := http.Get("http://" + node.HTTP + "/metrics")
		if err != nil {
			w.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		if m := votesLine.FindSubmatch(text); m != nil {
			heard, _ := strconv.Atoi(string(m[1])) // digits
			n += heard
		}
	}
	return n
}

// prepared is how many branches python holds; -1 if it does not answer.
func (w *world) prepared() int {
	conn, err := rpc.Dial(w.endpoint)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	d, err := pb.NewParticipantClient(conn).Describe(within(w.t, 5*time.Second), &pb.DescribeRequest{})
	if err != nil {
		return -1
	}
	return int(d.GetPrepared())
}

// TestInACluster: commits, aborts, and two branches that are in doubt when
// kill -9 ends the participant: one that is committed meanwhile, one that is aborted.
func TestInACluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if r, err := w.submit("commit", "a", "2"); err != nil || r.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("%v, %v", r, err)
	}
	w.want("a", 2)
	r, err := w.submit("abort", "a", "-3")
	if err != nil || r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_CONDITION || r.GetReason().GetParticipant() != "seats" {
		t.Fatalf("%v, %v", r, err)
	}
	w.want("a", 2)
	w.inDoubt("kept", "b", "5", pb.Outcome_COMMIT)
	w.want("b", 5)
	w.inDoubt("undone", "b", "-6", pb.Outcome_ABORT)
	w.want("b", 5)
}

// inDoubt has python killed after its vote and before the decision, which
// falls while it is down, and waits until it has settled the branch.
func (w *world) inDoubt(id, key, delta string, want pb.Outcome) {
	w.t.Helper()
	seats := w.Participants["seats"]
	if err := seats.Pause(); err != nil { // it cannot vote
		w.t.Fatal(err)
	}
	type answer struct {
		response *pb.TransactionResponse
		err      error
	}
	answers, before := make(chan answer, 1), w.votes()
	go func() {
		r, err := w.submit(id, key, delta)
		answers <- answer{r, err}
	}()
	w.eventually("a node has heard python's vote", func() bool { return w.votes() > before })
	if err := w.python.Kill(); err != nil {
		w.t.Fatal(err)
	}
	if err := seats.Resume(); err != nil {
		w.t.Fatal(err)
	}
	w.eventually(id+" is decided while python is down", func() bool {
		r, err := w.client.Get(within(w.t, 5*time.Second), &pb.GetRequest{Id: id})
		return err == nil && r.GetOutcome() == want
	})
	if err := w.python.Start(); err != nil {
		w.t.Fatal(err)
	}
	a := <-answers
	if a.err != nil || a.response.GetOutcome() != want || len(a.response.GetPending()) != 0 {
		w.t.Fatalf("%v, %v", a.response, a.err)
	}
	w.eventually("python holds nothing", func() bool { return w.prepared() == 0 })
}
