package database

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// killTree ends a process and its children at once, as a failure of the machine
// would: the first is stopped before, so that it makes no more of them.
func killTree(pid int) {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	signalTree(pid, syscall.SIGKILL)
}

// signalTree signals a process, then its children.
func signalTree(pid int, s syscall.Signal) {
	for _, p := range append([]int{pid}, children(pid)...) {
		_ = syscall.Kill(p, s)
	}
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
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	text := string(stat)
	return !strings.HasPrefix(strings.TrimSpace(text[strings.LastIndexByte(text, ')')+1:]), "Z")
}
