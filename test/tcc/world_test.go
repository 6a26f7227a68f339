package tcc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const patience = 60 * time.Second

// world is a cluster with the KV participant "payments" and, behind an agent
// and a gate, the service "seats".
type world struct {
	*local.Cluster
	t        *testing.T
	dir      string
	client   *rpc.Client
	gate     *gate
	agent    *local.Process
	service  *local.Process
	endpoint string // of the agent
	base     string // of the service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	c, err := local.Start(within(t, patience), local.Config{
		Binary: binary, Dir: dir, Nodes: 3, Participants: []string{"payments"}, ParticipantArgs: []string{"--forget-every", "500ms"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
	})
	w := &world{Cluster: c, t: t, dir: dir, endpoint: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("only agent and service know it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	w.base = fmt.Sprintf("http://127.0.0.1:%d", port)
	w.gate = newGate(t, w.base)
	script, err := filepath.Abs(service)
	if err != nil {
		t.Fatal(err)
	}
	w.service = w.process("service", python, script, "--port", strconv.Itoa(port), "--db", filepath.Join(dir, "seats.db"), "--secret-file", secret)
	w.agent = w.process("agent", binary, "participant", "http", "--name", "seats", "--url", w.gate.server.URL+"/booking",
		"--data-dir", filepath.Join(dir, "agent"), "--secret-file", secret, "--listen", w.endpoint,
		"--nodes", strings.Join(c.Addresses(), ","), "--register", "--forget-every", "500ms")
	w.start(w.service)
	w.start(w.agent)
	w.reachable()
	return w
}

func (w *world) process(name, program string, args ...string) *local.Process {
	p := local.NewProcess(name, program, w.dir, args, nil)
	w.t.Cleanup(func() {
		_ = p.Kill() // it may be dead already
		if text, err := os.ReadFile(p.Log); err == nil && w.t.Failed() {
			w.t.Logf("---- %s ----\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

func (w *world) start(p *local.Process, env ...string) {
	w.t.Helper()
	if err := p.StartWith(env...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kill(p *local.Process) {
	w.t.Helper()
	if err := p.Kill(); err != nil {
		w.t.Fatal(err)
	}
}

// reachable waits until the cluster reaches the agent, and the service answers.
func (w *world) reachable() {
	w.t.Helper()
	w.eventually("the agent is registered and reachable", func() bool {
		list, err := w.client.ListParticipants(within(w.t, 5*time.Second))
		if err != nil {
			return false
		}
		for _, p := range list {
			if p.GetName() == "seats" && p.GetReachable() {
				return true
			}
		}
		return false
	})
	w.eventually("the service answers", func() bool { _, err := w.flight("none"); return err == nil })
}

// eventually polls a condition that other processes bring about.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

// book is one transaction over both: a seat of a flight for 10 of an account,
// which must stay at low or above.
func (w *world) book(id, flight string, seats int, account string, low int, timeout time.Duration) (*pb.TransactionResponse, error) {
	return w.client.Submit(within(w.t, patience), &pb.SubmitRequest{
		Id: id, Wait: pb.Wait_COMPLETED, Timeout: durationpb.New(timeout), Branches: []*pb.Branch{
			{Participant: "seats", Payload: fmt.Appendf(nil, `{"flight": %q, "seats": %d}`, flight, seats)},
			{Participant: "payments", Payload: fmt.Appendf(nil, `{"ops":[{"op":"add","key":%q,"delta":-10,"min":%d}]}`, account, low)},
		},
	})
}

// flight is the service's ledger of a flight: seats by state.
func (w *world) flight(name string) (map[string]int, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(w.base + "/flights/" + name)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var seats map[string]int
	return seats, json.NewDecoder(resp.Body).Decode(&seats)
}

// account is what the KV participant has committed.
func (w *world) account(name string) int {
	w.t.Helper()
	n := 0
	w.eventually("the account can be read", func() bool {
		items, err := w.client.ReadKV(within(w.t, 5*time.Second), "payments", name)
		if err != nil {
			return false
		}
		if items[0].GetExists() {
			n, err = strconv.Atoi(string(items[0].GetValueJson()))
		}
		return err == nil
	})
	return n
}

// ends demands that the flight comes to so many confirmed seats and none that
// are reserved, and that the account has paid for just those.
func (w *world) ends(flight, account string, confirmed int) {
	w.t.Helper()
	var seats map[string]int
	w.eventually(fmt.Sprintf("flight %s has %d seats confirmed and none reserved", flight, confirmed), func() bool {
		var err error
		seats, err = w.flight(flight)
		return err == nil && seats["reserved"] == 0 && seats["confirmed"] == confirmed
	})
	if paid := -w.account(account); paid != 10*confirmed {
		w.t.Errorf("%d is paid for %d seats of %s: %v", paid, confirmed, flight, seats)
	}
}
