package database

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killTree ends a process and its children at once, as a failure of the machine
// would, and returns all of them. The first is stopped before, so that it makes
// no more of them.
func killTree(pid int) []int {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for deadline := time.Now().Add(patience); alive(pid) && state(pid) != 'T' && time.Now().Before(deadline); {
		time.Sleep(100 * time.Microsecond) // it may be in the middle of making one
	}
	return signalTree(pid, syscall.SIGKILL)
}

// signalTree signals a process, then its children, and returns them.
func signalTree(pid int, s syscall.Signal) []int {
	family := append([]int{pid}, children(pid)...)
	for _, p := range family {
		_ = syscall.Kill(p, s)
	}
	return family
}

func children(parent int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var list []int
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …; the name may contain anything.
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				list = append(list, pid)
			}
		}
	}
	slices.Sort(list)
	return list
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	st := state(pid)
	return st != 0 && st != 'Z'
}

// state is that of a process, as the kernel writes it; 0 if there is none.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	text := string(stat) // pid (name) state …; the name may contain anything
	if fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]); len(fields) > 0 {
		return fields[0][0]
	}
	return 0
}
