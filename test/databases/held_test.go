package databases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// holdAt has the next branch that comes to a point in the agent wait there.
func (w *world) holdAt(a *agent, point string) {
	w.t.Helper()
	_ = os.Remove(w.pointFile(a, "held"))
	w.tell(a, "hold "+point)
}

// isHeld reports whether one does.
func (w *world) isHeld(a *agent) bool {
	_, err := os.Stat(w.pointFile(a, "held"))
	return err == nil
}

// letGo has it go on.
func (w *world) letGo(a *agent) {
	w.t.Helper()
	w.tell(a, "")
}

// tell gives a running agent, which listens already, another point.
func (w *world) tell(a *agent, what string) {
	w.t.Helper()
	name := w.pointFile(a, "arm")
	err := os.WriteFile(name, []byte(what), 0o600)
	if err == nil {
		err = a.Signal(syscall.SIGUSR2)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, patience, a.Name+" has read its point", func() bool {
		_, err := os.Stat(name)
		return errors.Is(err, os.ErrNotExist)
	})
}

func (w *world) pointFile(a *agent, what string) string {
	return filepath.Join(w.dir, fmt.Sprintf("%d.%s", a.PID(), what))
}
