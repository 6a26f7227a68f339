package database

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// packages are Debian's, of one server's programs.
type packages []string

func (p packages) command() string {
	return "apt-get install --no-install-recommends " + strings.Join(p, " ")
}

// installed looks for programs and, as root on Debian, installs them if they are
// missing. Where that cannot be done it is a failure of the run, never a reason
// to skip: what is not tested does not work.
func (p packages) installed(what string, look func() (string, error)) (string, error) {
	found, err := look()
	if err == nil {
		return found, nil
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%s is missing, and these tests need it (%w): as root, %s", what, err, p.command())
	}
	if err := p.install(look); err != nil {
		return "", fmt.Errorf("%s is missing, and these tests need it: %s: %w", what, p.command(), err)
	}
	return look()
}

// install is done by one process at a time: every package's tests are a process
// of their own, and a second apt-get would be refused.
func (p packages) install(look func() (string, error)) (err error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "concordat-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := look(); err == nil { // another process was faster
		return nil
	}
	// Nobody wants the package to start a server of its own.
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
	}
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-qy", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}, p...),
	} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}

// policy is asked by Debian's packages whether they may start what they install.
const policy = "/usr/sbin/policy-rc.d"
