package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// buffer is what a program writes while a test reads it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// result is how one command line ended.
type result struct {
	status         int
	stdout, stderr string
}

// run runs one command line to its end.
func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr buffer
	status := Main(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	return result{status, stdout.String(), stderr.String()}
}

// want checks the exit status and that stderr holds the text.
func (r result) want(t *testing.T, status int, stderr ...string) result {
	t.Helper()
	if r.status != status {
		t.Fatalf("exit status %d, want %d\nstdout: %s\nstderr: %s", r.status, status, r.stdout, r.stderr)
	}
	for _, text := range stderr {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr lacks %q: %s", text, r.stderr)
		}
	}
	return r
}

// json reads stdout.
func (r result) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("stdout is not JSON: %v\n%s", err, r.stdout)
	}
	return v
}

// service is a server or participant that runs as its command line does.
type service struct {
	cancel context.CancelFunc
	done   chan struct{}
	status int
	stderr buffer
}

// start runs a command line until the test ends, or stop.
func start(t *testing.T, args ...string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.status = Main(ctx, args, strings.NewReader(""), &s.stderr, &s.stderr)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), s.stderr.String())
		}
	})
	return s
}

func (s *service) stop() int {
	s.cancel()
	<-s.done
	return s.status
}

// freeAddress is an address where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startCluster runs one node with two KV participants, seats and payments,
// and makes it the cluster of every client command of the test.
func startCluster(t *testing.T) (seats string) {
	t.Helper()
	dir, rpcAddr, raftAddr := t.TempDir(), freeAddress(t), freeAddress(t)
	t.Setenv(nodesVariable, rpcAddr)
	start(t, "server", "--id", "n1", "--data-dir", filepath.Join(dir, "n1"), "--peers", "n1="+raftAddr,
		"--listen", rpcAddr, "--http-listen", "127.0.0.1:0")
	seats = freeAddress(t)
	start(t, "participant", "kv", "--name", "seats", "--data-dir", filepath.Join(dir, "seats"), "--listen", seats, "--register")
	start(t, "participant", "kv", "--name", "payments", "--data-dir", filepath.Join(dir, "payments"),
		"--listen", "127.0.0.1:0", "--register")
	eventually(t, "both participants are registered", func() bool {
		r := run(t, "", "participants", "list", "--deadline", "5s")
		return r.status == exitDone && strings.Contains(r.stdout, "seats") && strings.Contains(r.stdout, "payments")
	})
	return seats
}

const book = `{"ops":[{"op":"add","key":"flight/LH1","delta":%d,"min":0},{"op":"get","key":"flight/LH1"}]}`

// One cluster serves the steps, in this order.
func TestCluster(t *testing.T) {
	seats := startCluster(t)
	t.Run("commit", checkCommit)
	t.Run("the same id again", checkSameID)
	t.Run("abort", checkAbort)
	t.Run("file", checkFile)
	t.Run("kv get", checkKvGet)
	t.Run("refusals", checkRefusals)
	t.Run("tx get, list and abort", checkLookUp)
	t.Run("cluster status", checkStatus)
	t.Run("participants", func(t *testing.T) { checkRegistry(t, seats) })
}

func checkCommit(t *testing.T) {
	r := run(t, "", "tx", "submit", "-o", "json", "--id", "fill", "--wait", "completed",
		"--branch", "seats="+fmt.Sprintf(book, 3), "--branch", `payments={"ops":[{"op":"put","key":"acct/ann","value":"x"}]}`)
	tx := r.want(t, exitDone).json(t)
	if tx["id"] != "fill" || tx["outcome"] != "COMMIT" || tx["state"] != "STATE_COMMITTED" {
		t.Errorf("got %v", tx)
	}
	branch := tx["branches"].([]any)[0].(map[string]any)
	if got := fmt.Sprint(branch["result"]); got != "map[results:[map[exists:true key:flight/LH1 value:3]]]" {
		t.Errorf("the result is %s", got)
	}
}

func checkSameID(t *testing.T) {
	run(t, "", "tx", "submit", "--id", "fill",
		"--branch", "seats="+fmt.Sprintf(book, 3), "--branch", `payments={"ops":[{"op":"put","key":"acct/ann","value":"x"}]}`).want(t, exitDone)
	run(t, "", "tx", "submit", "--id", "fill", "--branch", "seats="+fmt.Sprintf(book, 4)).want(t, exitError, "ID_REUSED", "fill")
}

func checkAbort(t *testing.T) {
	r := run(t, "", "tx", "submit", "--id", "greedy", "--branch", "seats="+fmt.Sprintf(book, -5))
	r.want(t, exitAborted, "greedy", "CONDITION at seats", "flight/LH1")
	if !strings.Contains(r.stdout, "ABORT") {
		t.Errorf("stdout: %s", r.stdout)
	}
}

func checkFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tx.json")
	text := `{"id": "filed", "wait": "COMPLETED", "timeout": "2s",
		"branches": [{"participant": "seats", "payload": ` + fmt.Sprintf(book, -1) + `}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "tx", "submit", "-f", file).want(t, exitDone)
	r := run(t, text, "tx", "submit", "-f", "-", "--id", "piped", "-o", "json").want(t, exitDone)
	if got := r.json(t)["id"]; got != "piped" {
		t.Errorf("--id did not win over the file: %v", got)
	}
}

func checkKvGet(t *testing.T) {
	r := run(t, "", "kv", "get", "seats", "flight/LH1", "flight/none").want(t, exitDone)
	if want := "KEY          VALUE\nflight/LH1   1\nflight/none  (does not exist)\n"; r.stdout != want {
		t.Errorf("got %q, want %q", r.stdout, want)
	}
	items := run(t, "", "kv", "get", "seats", "flight/LH1", "--stale", "-o", "json").want(t, exitDone).json(t)["items"]
	if got := fmt.Sprint(items); got != "[map[exists:true key:flight/LH1 value:1]]" {
		t.Errorf("got %s", got)
	}
	run(t, "", "kv", "get", "nobody", "k").want(t, exitError, "PARTICIPANT_UNKNOWN", "nobody")
}

func checkRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		stderr string
	}{
		"unknown participant": {[]string{"--branch", "nobody={}"}, "nobody"},
		"unknown operation":   {[]string{"--branch", `seats={"ops":[{"op":"frob","key":"k"}]}`}, "branches[0].payload.ops[0].op"},
		"twice":               {[]string{"--branch", "seats=" + fmt.Sprintf(book, 1), "--branch", "seats=" + fmt.Sprintf(book, 1)}, "branches[1].participant"},
		"negative timeout":    {[]string{"--timeout", "-1s", "--branch", "seats=" + fmt.Sprintf(book, 1)}, "timeout"},
		"huge timeout":        {[]string{"--timeout", "100h", "--branch", "seats=" + fmt.Sprintf(book, 1)}, "timeout"},
		"odd id":              {[]string{"--id", "a b", "--branch", "seats=" + fmt.Sprintf(book, 1)}, "id: 1 to 48 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "", append([]string{"tx", "submit"}, tc.args...)...).want(t, exitError, tc.stderr)
		})
	}
}

func checkLookUp(t *testing.T) {
	if got := run(t, "", "tx", "get", "fill", "-o", "json").want(t, exitDone).json(t); got["outcome"] != "COMMIT" {
		t.Errorf("got %v", got)
	}
	run(t, "", "tx", "get", "never", "--stale").want(t, exitError, "NOT_FOUND")
	run(t, "", "tx", "abort", "fill").want(t, exitError, "committed already")
	run(t, "", "tx", "abort", "never", "--message", "not wanted").want(t, exitDone)
	run(t, "", "tx", "submit", "--id", "never", "--branch", "seats="+fmt.Sprintf(book, 1)).want(t, exitAborted, "REQUESTED")
	eventually(t, "the aborted one is finished and listed", func() bool {
		out := run(t, "", "tx", "list", "--state", "aborted", "--participant", "seats").want(t, exitDone).stdout
		return strings.Contains(out, "greedy") && !strings.Contains(out, "fill")
	})
	first := run(t, "", "tx", "list", "--limit", "1").want(t, exitDone, "--after filed")
	if !strings.Contains(first.stdout, "filed") {
		t.Errorf("got %s", first.stdout)
	}
	if got := run(t, "", "tx", "list", "--after", "filed", "--limit", "1", "-o", "json").json(t); got["more"] != true {
		t.Errorf("got %v", got)
	}
	run(t, "", "tx", "resolve", "never-heard-of", "--acknowledge").want(t, exitError)
}

func checkStatus(t *testing.T) {
	r := run(t, "", "cluster", "status").want(t, exitDone)
	if !strings.Contains(r.stdout, "n1") || !strings.Contains(r.stdout, "ready") {
		t.Errorf("got %s", r.stdout)
	}
	nodes := run(t, "", "cluster", "status", "-o", "json").want(t, exitDone).json(t)["nodes"].([]any)
	if st := nodes[0].(map[string]any)["status"].(map[string]any); st["ready"] != true || st["node"] != "n1" {
		t.Errorf("got %v", st)
	}
}

func checkRegistry(t *testing.T, seats string) {
	run(t, "", "participants", "add", "seats", "--endpoint", seats).want(t, exitDone)
	run(t, "", "participants", "add", "seats", "--accept-incarnation").want(t, exitDone)
	run(t, "", "participants", "add", "other", "--endpoint", seats).want(t, exitError, "seats")
	run(t, "", "participants", "add", "other", "--accept-incarnation").want(t, exitError, "--endpoint")
	run(t, "", "participants", "add", "dead", "--endpoint", freeAddress(t)).want(t, exitUnavailable, "nobody answers")
	r := run(t, "", "participants", "remove", "payments", "--operator", "ann", "-o", "json").want(t, exitDone)
	if state := r.json(t)["state"]; state != "removed" && state != "draining" {
		t.Errorf("state %v", state)
	}
	run(t, "", "tx", "submit", "--branch", `payments={"ops":[{"op":"get","key":"k"}]}`).want(t, exitError, "payments")
}

func TestServicesStopInOrder(t *testing.T) {
	dir, rpcAddr := t.TempDir(), freeAddress(t)
	t.Setenv(nodesVariable, rpcAddr)
	server := start(t, "server", "--id", "n1", "--data-dir", filepath.Join(dir, "n1"), "--peers", "n1="+freeAddress(t),
		"--listen", rpcAddr, "--http-listen", "127.0.0.1:0", "--wan", "--log-level", "warn", "--max-branches", "2")
	kv := start(t, "participant", "kv", "--name", "seats", "--data-dir", filepath.Join(dir, "seats"), "--listen", "127.0.0.1:0", "--register")
	eventually(t, "seats is registered", func() bool {
		return strings.Contains(run(t, "", "participants", "list", "--deadline", "5s").stdout, "seats")
	})
	// A flag reaches the node: three branches are one too many.
	run(t, "", "tx", "submit", "--branch", "a={}", "--branch", "b={}", "--branch", "c={}").want(t, exitError, "branches: 1 to 2, got 3")
	// The data directory is taken.
	run(t, "", "participant", "kv", "--name", "seats", "--data-dir", filepath.Join(dir, "seats"), "--listen", "127.0.0.1:0").
		want(t, exitError, "in use")
	// And so is the port.
	run(t, "", "server", "--id", "n2", "--data-dir", filepath.Join(dir, "n2"), "--peers", "n2="+freeAddress(t),
		"--listen", rpcAddr, "--http-listen", "127.0.0.1:0").want(t, exitError, "--listen", "the port is in use")
	if status := kv.stop(); status != exitDone {
		t.Errorf("the participant ended with %d: %s", status, kv.stderr.String())
	}
	if status := server.stop(); status != exitDone {
		t.Errorf("the server ended with %d: %s", status, server.stderr.String())
	}
}
