package database

import (
	"fmt"
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

// freePort is one of the loopback where nobody listens now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// killTree ends a process and its children at once, as a failure of the machine
// would: the first is stopped before, so that it makes no more of them.
func killTree(pid int) {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for _, p := range append([]int{pid}, children(pid)...) {
		_ = syscall.Kill(p, syscall.SIGKILL)
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
