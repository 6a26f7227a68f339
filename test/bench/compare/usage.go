package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc: USER_HZ, which is 100 on
// every Linux that programs see.
const ticksPerSecond = 100

// usage is what some processes have used so far.
type usage struct {
	cpu     time.Duration // user and system mode
	written int           // bytes that they caused to be written to disk
}

// use reads usage of processes; one that has ended since counts for nothing.
func use(ids []int) (u usage, err error) {
	for _, id := range ids {
		cpu, err := cpuOf(id)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			return u, err
		}
		written, err := field(id, "io", "write_bytes:")
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		u.written += written
	}
	return u, nil
}

func (u usage) less(o usage) usage { return usage{u.cpu - o.cpu, u.written - o.written} }

func cpuOf(id int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return 0, err
	}
	// The program's name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/%d/stat: %q", id, b)
	}
	user, err1 := strconv.Atoi(string(fields[utime]))
	system, err2 := strconv.Atoi(string(fields[stime]))
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat: %q", id, b)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// field is a number behind a name in one of a process's files.
func field(id int, file, name string) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", id, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", id, file, name)
}

// forgetPeak begins to watch the peak of memory anew.
func forgetPeak(ids []int) error {
	for _, id := range ids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", id), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// peak is the highest that one of the processes has had resident, in bytes.
func peak(ids []int) (highest int, err error) {
	for _, id := range ids {
		kib, err := field(id, "status", "VmHWM:")
		if err != nil {
			return 0, err
		}
		highest = max(highest, kib<<10)
	}
	return highest, nil
}
