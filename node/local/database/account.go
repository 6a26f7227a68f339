package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is who the servers run as.
type account struct {
	name     string
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
			return account{name, uid, gid, true}, nil
		}
	}
	return account{}, fmt.Errorf("none of the users %s exists", strings.Join(append(names, "nobody"), ", "))
}

// directory makes a directory that is the account's alone: dir, which must not
// be there, or a temporary one.
func (a account) directory(dir, pattern string) (_ string, err error) {
	if dir == "" {
		dir, err = os.MkdirTemp("", pattern)
	} else {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil || !a.other {
		return dir, err
	}
	if err := errors.Join(a.enters(filepath.Dir(dir)), os.Chown(dir, a.uid, a.gid)); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}

// enters is an error if the account cannot get into a directory.
func (a account) enters(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		may := os.FileMode(0o001)
		switch {
		case ok && int(owner.Uid) == a.uid:
			may = 0o100
		case ok && int(owner.Gid) == a.gid:
			may = 0o010
		}
		if info.Mode()&may == 0 {
			return fmt.Errorf("the server runs as %s, who may not enter %s: choose another directory", a.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// write makes a file that is the account's alone.
func (a account) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if a.other {
		return os.Chown(path, a.uid, a.gid)
	}
	return nil
}

// command runs as the account, in a process group of its own: Ctrl-C is ours to handle.
func (a account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// run runs a command to its end, or ends it and what it started when ctx does.
func (a account) run(ctx context.Context, cmd *exec.Cmd) error {
	dieWithUs(cmd.SysProcAttr)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, said.String())
	}
	return nil
}

// line is the command line by which a shell of ours runs something as the account.
func (a account) line(command []string) []string {
	if !a.other {
		return command
	}
	return append([]string{"setpriv", "--reuid=" + strconv.Itoa(a.uid), "--regid=" + strconv.Itoa(a.gid), "--clear-groups"}, command...)
}
