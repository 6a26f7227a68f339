// Package debian is what the suites need of the system: programs that are not
// Go's. As root on Debian they install what is missing.
package debian

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Program is where a program was found, or installed: by look, which returns its
// path, from these packages. What says what is missing, in the words of a
// failure. Where nothing can be installed that is a failure of the run, never a
// reason to skip: what is not tested does not work.
func Program(what string, look func() (string, error), packages ...string) (string, error) {
	found, err := look()
	if err == nil {
		return found, nil
	}
	command := "apt-get install --no-install-recommends " + strings.Join(packages, " ")
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%s is missing, and the tests need it (%w): as root, %s", what, err, command)
	}
	if err := install(look, packages); err != nil {
		return "", fmt.Errorf("%s is missing, and the tests need it: %s: %w", what, command, err)
	}
	if found, err = look(); err != nil {
		return "", fmt.Errorf("%s is missing, and %s did not bring it: %w", what, command, err)
	}
	return found, nil
}

// Need is Program for what is found in $PATH.
func Need(program string, packages ...string) error {
	_, err := Program(program, func() (string, error) { return exec.LookPath(program) }, packages...)
	return err
}

// install is done by one process at a time: every package's tests are a process
// of their own, and a second apt-get would be refused.
func install(look func() (string, error), packages []string) (err error) {
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
	// Nobody wants a package to start a server of its own.
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
