package tcc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// leastPassed is how many checks pass; the others cannot see effects of a payload that is not the suite's.
const leastPassed = 50

// TestConforms puts the agent with its service to the suite that participants
// in any language must pass, which kills it again and again.
func TestConforms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, payload := write("secret", "only agent and service know it"), write("payload.json", `{"flight": "{key}", "seats": 1}`)
	script, err := filepath.Abs(service)
	if err != nil {
		t.Fatal(err)
	}
	port, endpoint := strconv.Itoa(freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := local.NewProcess("service", python, dir, []string{script, "--port", port, "--db", filepath.Join(dir, "seats.db"), "--secret-file", secret}, nil)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	w := &world{t: t, base: "http://127.0.0.1:" + port}
	w.eventually("the service answers", func() bool { _, err := w.flight("none"); return err == nil })
	cmd := exec.CommandContext(within(t, 3*time.Minute), binary, "participants", "conform", "--endpoint", endpoint,
		"--serve", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--payload", payload, "--",
		binary, "participant", "http", "--name", "subject", "--url", w.base, "--secret-file", secret,
		"--data-dir", filepath.Join(dir, "agent"), "--listen", endpoint)
	out, err := cmd.CombinedOutput()
	m := regexp.MustCompile(`(?m)^participant subject \(http\) at \S+: (\d+) passed, 0 failed, \d+ skipped$`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if passed, err := strconv.Atoi(string(m[1])); err != nil || passed < leastPassed {
		t.Errorf("only %s passed, %v", m[1], err)
	}
}
