//go:build linux

package place

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The probes try each means in small, so that what this machine does not give
// is known before anything is built on it. All but the last need Inside.

// ProbeNetwork tries what NewNetwork, Drop and Reset need.
func ProbeNetwork() error {
	return lines(
		"ip link set lo up",
		"ip link add probe0 type bridge",
		"ip link add probe1 type veth peer name probe2",
		"ip link del probe1",
		"ip link del probe0",
		"iptables -w -A INPUT -s 192.0.2.1 -j DROP",
		"iptables -w -A INPUT -s 192.0.2.1 -p tcp -j REJECT --reject-with tcp-reset",
		"iptables -w -F",
	)
}

// ProbeSlow tries what Slow needs.
func ProbeSlow() error {
	return lines(
		"ip link add probe1 type veth peer name probe2",
		"tc qdisc add dev probe1 root tbf rate 400kbit burst 1600 latency 300ms",
		"ip link del probe1",
	)
}

// ProbeDisk cuts the power of a small disk in an existing folder.
func ProbeDisk(dir string) error {
	d, err := NewDisk(filepath.Join(dir, "probe"), 16)
	if err != nil {
		return err
	}
	if err := d.CutPower(); err != nil {
		return errors.Join(err, d.Close())
	}
	return errors.Join(d.Restore(), d.Close())
}

// ProbeTrace attaches to a process.
func ProbeTrace(dir string) error {
	child := exec.Command("sleep", "60")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return err
	}
	t, err := TraceSyncs(child.Process.Pid, SkipSyncs, filepath.Join(dir, "probe.strace"))
	if err == nil {
		t.Detach()
	}
	_ = child.Process.Kill() // it may have ended with a tracer that failed
	_ = child.Wait()
	return err
}

func lines(all ...string) error {
	for _, line := range all {
		words := strings.Fields(line)
		if _, err := run(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}
