package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// block is one piece of the README's quick start.
type block struct {
	script string
	status int
}

// quickstart reads the README's blocks that are marked to be run.
func quickstart(t *testing.T) []block {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var blocks []block
	var b *block
	inside := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "<!-- quickstart"):
			b = &block{}
			if _, status, ok := strings.Cut(strings.TrimSuffix(line, " -->"), "exit "); ok {
				if b.status, err = strconv.Atoi(status); err != nil {
					t.Fatalf("README: %s: %v", line, err)
				}
			}
		case b != nil && line == "```sh":
			inside = true
		case inside && line == "```":
			blocks = append(blocks, *b)
			b, inside = nil, false
		case inside:
			b.script += line + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return blocks
}

// TestREADMEQuickStart runs the README's commands as they stand there, in one
// shell, but for the folder and the ports, which are the test's own.
func TestREADMEQuickStart(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("the README's examples need curl: %v", err)
	}
	blocks := quickstart(t)
	if len(blocks) < 5 {
		t.Fatalf("found %d blocks in the README", len(blocks))
	}
	dir := t.TempDir()
	ports := map[string]string{}
	script := "set -u\n"
	for i, b := range blocks {
		s := strings.ReplaceAll(b.script, "/tmp/concordat", dir)
		s = strings.ReplaceAll(s, "make build", ":")
		s = strings.ReplaceAll(s, `"$PWD/bin:$PATH"`, `"`+filepath.Dir(binary)+`:$PATH"`)
		script += fmt.Sprintf("%s\nstatus=$?; echo \"== block %d ended with $status\"; [ $status = %d ] || exit 99\n", s, i, b.status)
	}
	script = ownPorts(t, script, ports)
	cmd := exec.CommandContext(within(t, 90*time.Second), "bash", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The servers it leaves in the background are of its process group.
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	out := filepath.Join(dir, "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	runErr := cmd.Run()
	said, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if runErr != nil {
		t.Fatalf("%v\n%s", runErr, said)
	}
	for _, want := range []string{"COMMITTED", "booking-43", "CONDITION", "acct/ann  260", "flight/LH1  0",
		`"id":"deposit-1"`, `{"key":"acct/bob","exists":true,"value":300}`, `"transactions":[{`, `"id":"booking-44"`, `"message":"changed my mind"`,
		`"field":"timeout","limit":"50ms to 1m0s"`, "event: changed", `"id":"watched-1","index"`, `"code":"DEADLINE_EXCEEDED"`,
	} {
		if !strings.Contains(string(said), want) {
			t.Errorf("the output does not show %q:\n%s", want, said)
		}
	}
}

// ownPorts gives each port of the README one that is free here.
func ownPorts(t *testing.T, script string, ports map[string]string) string {
	t.Helper()
	for _, port := range []string{"7001", "7002", "7003", "7101", "7102", "7103", "7201", "7202", "7203", "7301", "7302", "7303"} {
		ports[port] = freePort(t)
		script = strings.ReplaceAll(script, "127.0.0.1:"+port, "127.0.0.1:"+ports[port])
	}
	return script
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
