package database

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/concordat-tx/concordat/node/local/database"
)

// installed looks for programs and, as root on Debian, installs them if they are
// missing. Where that cannot be done it is a failure of the run, never a reason
// to skip: what is not tested does not work.
func installed(look func() error) error {
	err := look()
	missing, ok := errors.AsType[*database.Missing](err)
	if !ok {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("these tests need it: %w", err)
	}
	if err := install(missing.Packages, look); err != nil {
		return fmt.Errorf("these tests need it: %w: %w", missing, err)
	}
	return look()
}

// install is done by one process at a time: every package's tests are a process
// of their own, and a second apt-get would be refused.
func install(packages []string, look func() error) (err error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "concordat-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if look() == nil { // another process was faster
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
		append([]string{"install", "-qy", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}, packages...),
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
