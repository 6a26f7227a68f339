package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// ticksPerSecond is the unit of CPU times in /proc: USER_HZ, which is 100 on
// every Linux that programs see.
const ticksPerSecond = 100

// resident is a process's memory in bytes (RSS).
func resident(p *local.Process) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Name, err)
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s: /proc/%d/statm: %q", p.Name, p.PID(), b)
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	return pages * float64(os.Getpagesize()), err
}

// cpu is the processor time that a process has used, in user and system mode.
func cpu(p *local.Process) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Name, err)
	}
	// The program's name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("%s: /proc/%d/stat: %q", p.Name, p.PID(), b)
	}
	var ticks int64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: /proc/%d/stat: %w", p.Name, p.PID(), err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// written is how many bytes a process has caused to be written to disk.
func written(p *local.Process) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Name, err)
	}
	_, rest, found := bytes.Cut(b, []byte("\nwrite_bytes: "))
	if !found {
		return 0, fmt.Errorf("%s: /proc/%d/io has no write_bytes", p.Name, p.PID())
	}
	value, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.ParseFloat(string(value), 64)
}

// cpuOf is the processor time of several processes.
func cpuOf(list []*local.Process) (sum time.Duration, err error) {
	for _, p := range list {
		t, err := cpu(p)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// nodeProcesses are the nodes' processes.
func (s *stage) nodeProcesses() (list []*local.Process) {
	for _, n := range s.Nodes {
		list = append(list, n.Process)
	}
	return list
}

// participantProcesses are the participants' processes.
func (s *stage) participantProcesses() (list []*local.Process) {
	for _, p := range s.Participants {
		list = append(list, p.Process)
	}
	return list
}

const mebibyte = 1 << 20
