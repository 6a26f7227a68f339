package crash

import (
	"os"
	"os/exec"
	"strings"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// clientDies runs the command that passes a point, as a process that dies there.
func (w *world) clientDies(point string) []*tx {
	t := w.t
	t.Helper()
	w.round++
	x := w.transaction("commit", "", "")
	args := []string{"tx", "submit", "--id", x.req.GetId()}
	for _, b := range x.req.GetBranches() {
		args = append(args, "--branch", b.GetParticipant()+"="+string(b.GetPayload()))
	}
	switch {
	case strings.HasPrefix(point, "client.get."):
		w.run(x)
		args = []string{"tx", "get", x.req.GetId()}
	case strings.HasPrefix(point, "client.abort."):
		x.kind = "refuse"
		args = []string{"tx", "abort", x.req.GetId()}
	}
	cmd := exec.CommandContext(within(t, callTime), binary, append(args, "--nodes", strings.Join(w.Addresses(), ","))...)
	cmd.Env = append(os.Environ(), failpoint.DirVariable+"="+w.points, armedAt(point))
	out, err := cmd.CombinedOutput()
	said, readErr := os.ReadFile(w.file(cmd.Process.Pid, "died"))
	if err == nil || readErr != nil || strings.TrimSpace(string(said)) != point {
		t.Errorf("the client did not die at %s but at %q: %v\n%s", point, said, err, out)
	}
	return append([]*tx{x}, w.workload()...)
}
