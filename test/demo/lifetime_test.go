package demo

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// However a demo is asked to end, it ends its children and removes its data.
func TestSignals(t *testing.T) {
	// Tests that run under nohup would hand down that SIGHUP is ignored; what is
	// caught is not handed down.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for name, tc := range map[string]struct {
		signal syscall.Signal
		moment string
		args   []string
	}{
		"Ctrl-C under load":    {syscall.SIGINT, " load ", nil},
		"SIGTERM at the kill":  {syscall.SIGTERM, "KILL", []string{"--duration", "4s"}},
		"the terminal is gone": {syscall.SIGHUP, "leads in term", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := demo(t, append([]string{"--clients", "2"}, tc.args...)...)
			r.sees("leads in term")
			pids := r.pids()
			r.sees(tc.moment)
			if len(r.data()) != 1 {
				t.Errorf("data in %v", r.data())
			}
			if err := r.cmd.Process.Signal(tc.signal); err != nil {
				t.Fatal(err)
			}
			if status := r.wait(); status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			noneLeft(t, pids)
			if left := r.data(); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// A cluster that is kept outlives its demo, answers, starts again what is
// killed, and is gone after the command that the demo printed.
func TestKeep(t *testing.T) {
	r := demo(t, "--clients", "2", "--duration", "2s", "--kills", "0", "--keep")
	r.sees("leads in term")
	pids := r.pids()
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	screen := r.shown()
	stop := regexp.MustCompile(`(?m)^  (kill \$\(cat .*)$`).FindStringSubmatch(screen)
	nodes := regexp.MustCompile(`(?m)^  export CONCORDAT_NODES=(\S+)$`).FindStringSubmatch(screen)
	victim := regexp.MustCompile(`(?m)^  kill -9 (\d+) +# n1; to start it again: (\S+)$`).FindStringSubmatch(screen)
	if stop == nil || nodes == nil || victim == nil {
		t.Fatal("the screen does not say how to play with the cluster")
	}
	shell := func(line string) string {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		return string(out)
	}
	stopped := false
	defer func() { // what was kept would outlive a test that fails
		if !stopped {
			t.Log(shell("tail -n 30 " + filepath.Join(r.data()[0], "*.log")))
			shell(stop[1])
		}
	}()
	status := program + " cluster status --nodes " + nodes[1]
	if out := shell(status); !strings.Contains(out, "Leader, ready") {
		t.Errorf("the cluster does not go on:\n%s", out)
	}
	shell("kill -9 " + victim[1])
	shell(victim[2])
	until(t, "n1 answers again", func() bool { return !strings.Contains(shell(status), "no answer") })
	stopped = true
	shell(stop[1])
	noneLeft(t, pids)
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Before there is a leader, too.
func TestInterruptedAtStart(t *testing.T) {
	r := demo(t)
	r.sees("data and logs in")
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := r.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Nobody ends the children of a demo that was killed: they see to it themselves.
func TestDemoKilled(t *testing.T) {
	r := demo(t, "--clients", "2")
	r.sees(" load ")
	pids := r.pids()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	noneLeft(t, pids)
}

// A demo whose parent is gone has nobody to show anything to.
func TestParentKilled(t *testing.T) {
	r := command(t, exec.Command("sh", "-c", `"$0" demo -o json --clients 2 & wait`, program))
	r.sees(" load ")
	pids := r.pids()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	noneLeft(t, pids)
	until(t, "the data are removed", func() bool { return len(r.data()) == 0 })
}

// concordat demo | head -1
func TestReaderGone(t *testing.T) {
	cmd := exec.Command(program, "demo", "--clients", "2")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, cmd: cmd, temp: t.TempDir(), done: make(chan struct{})}
	cmd.Stdout, cmd.Env = write, append(os.Environ(), "TMPDIR="+r.temp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	if _, err := bufio.NewReader(read).ReadString('\n'); err != nil {
		t.Error(err)
	}
	_ = read.Close()
	go func() { r.err = cmd.Wait(); close(r.done) }()
	if status := r.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
