package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// result is everything that a run has measured.
type result struct {
	Started  time.Time `json:"started"`
	Machine  machine   `json:"machine"`
	Versions []version `json:"versions"`
	Settings settings  `json:"settings"`
	// Quantiles are those of every distribution, in percent.
	Quantiles []float64      `json:"quantiles"`
	Figures   []figure       `json:"figures"`
	Logs      []logFigure    `json:"logs"`
	Kills     []killFigure   `json:"kills"`
	Settles   []settleFigure `json:"settles,omitempty"`
}

// machine is where it ran.
type machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory float64 `json:"memory_gib"`
	Kernel string  `json:"kernel"`
	OS     string  `json:"os"`
}

// version is of one program or library.
type version struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// settings are how it was measured.
type settings struct {
	Rounds  int     `json:"rounds"`
	WarmUp  float64 `json:"warm_up_s"`
	Window  float64 `json:"window_s"`
	Callers []int   `json:"callers"`
	Quick   bool    `json:"quick"`
}

func newResult(ctx context.Context, o options) (*result, error) {
	r := &result{
		Started: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Quantiles: quantiles,
		Settings: settings{o.rounds, o.warmUp.Seconds(), o.window.Seconds(), o.callers, o.quick},
	}
	said, err := exec.CommandContext(ctx, o.binary, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", o.binary, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	r.Versions = append([]version{{"concordat", first}, {"go", runtime.Version()}}, libraries()...)
	r.Versions = append(r.Versions, programs(ctx, o)...)
	return r, nil
}

// libraries are what the floor and we have in common.
func libraries() (found []version) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "go.etcd.io/bbolt", "google.golang.org/grpc":
			found = append(found, version{m.Path, m.Version})
		}
	}
	return found
}

func thisMachine() machine {
	m := machine{CPU: "unknown", CPUs: runtime.NumCPU(), Kernel: "unknown", OS: runtime.GOOS + "/" + runtime.GOARCH}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-") // what follows names a build
		m.Kernel = "Linux " + release
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.Memory = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	return m
}

func readResult(path string) (*result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &result{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// publish writes what was asked for. The error is one of writing, or says that
// the run does not count.
func (r *result) publish(o options) error {
	var errs []error
	if o.json != "" {
		b, err := json.MarshalIndent(r, "", " ")
		errs = append(errs, err, os.WriteFile(o.json, append(b, '\n'), 0o644))
	}
	t := summarise(r)
	fmt.Print(t.tables())
	if o.plots != "" {
		_, err := t.plot(o.plots)
		errs = append(errs, err)
	}
	if o.docs != "" {
		errs = append(errs, t.page(o.docs))
	}
	return errors.Join(append(errs, t.verdict(o))...)
}
