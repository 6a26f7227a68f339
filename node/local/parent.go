package local

import (
	"os"
	"strconv"
)

// ExitWithParent, called early by a child, ends it when the parent that
// started it through this package is gone, however that ended, unless the
// parent let go of it before (Process.Release). Without such a parent it does
// nothing.
func ExitWithParent() {
	fd, err := strconv.Atoi(os.Getenv(ExitWithEnv))
	if err != nil {
		return
	}
	_ = os.Unsetenv(ExitWithEnv) // it is ours, not our children's
	pipe := os.NewFile(uintptr(fd), "parent")
	go func() {
		defer pipe.Close()
		var b [1]byte
		if n, _ := pipe.Read(b[:]); n == 0 { // it ends with the parent
			os.Exit(1)
		}
	}()
}
