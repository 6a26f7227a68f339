package database

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds every wait for a server.
const patience = 30 * time.Second

const lowestPort, highestPort = 10_000, 32_000

// account is who the servers run as.
type account struct {
	uid, gid int
	// other: not who we are.
	other bool
}

// unprivileged is one of the system's own users if we are root, which servers refuse to be.
func unprivileged(names ...string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range append(names, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return account{uid, gid, true}, nil
		}
	}
	return account{}, fmt.Errorf("none of the users %s exists", strings.Join(append(names, "nobody"), ", "))
}

// directory makes an empty directory that belongs to the account.
func (a account) directory(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", err
	}
	if a.other {
		err = os.Chown(dir, a.uid, a.gid)
	}
	return dir, err
}

// command runs as the account and dies with us.
func (a account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// FreePort is one of the loopback where nobody listens now, below the ports
// that systems give to outgoing connections: while a server is down, one of
// those, even one to that very port, would take it away.
func FreePort() (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", lowestPort, highestPort)
}

// killTree ends a process and its children at once, as a failure of the machine
// would, and returns all of them. The first is stopped before, so that it makes
// no more of them.
func killTree(pid int) []int {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for deadline := time.Now().Add(patience); state(pid) != 'T' && alive(pid) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Microsecond) // it may be in the middle of making one
	}
	family := append([]int{pid}, children(pid)...)
	for _, p := range family {
		_ = syscall.Kill(p, syscall.SIGKILL)
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
