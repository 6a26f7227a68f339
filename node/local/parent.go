package local

import (
	"os"
	"strconv"
)

// ExitWithParent, called early by a child, ends it when the parent that
// started it through this package is gone, however that ended. Without such a
// parent it does nothing.
func ExitWithParent() {
	fd, err := strconv.Atoi(os.Getenv(ExitWithEnv))
	if err != nil {
		return
	}
	_ = os.Unsetenv(ExitWithEnv) // it is ours, not our children's
	pipe := os.NewFile(uintptr(fd), "parent")
	go func() {
		var b [1]byte
		_, _ = pipe.Read(b[:]) // nothing is ever written: it ends with the parent
		os.Exit(1)
	}()
}
