//go:build linux

package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/concordat-tx/concordat/test/chaos/place"
)

// tools of each class.
var tools = map[Class][]string{
	Signals:     {},
	Network:     {},
	Packets:     {"ip", "nsenter", "iptables"},
	SlowNetwork: {"ip", "nsenter", "tc"},
	Disk:        {"mount", "mkfs.ext4"},
	Tracing:     {"strace"},
}

// Prepare finds or installs what each class needs, before place.Enter, and
// says why a class cannot run.
func Prepare() map[Class]string {
	missing := map[Class]string{}
	for class, names := range tools {
		if err := place.Need(names...); err != nil {
			missing[class] = err.Error()
		}
	}
	return missing
}

// Probe tries what is not known to be missing, after place.Enter, in an
// existing folder. Two-way cuts are never missing: relays make them where there
// are no namespaces.
func Probe(dir string, missing map[Class]string) {
	probes := map[Class]func() error{
		Packets:     place.ProbeNetwork,
		SlowNetwork: place.ProbeSlow,
		Disk:        func() error { return place.ProbeDisk(dir) },
		Tracing:     func() error { return place.ProbeTrace(dir) },
	}
	for _, class := range []Class{Packets, SlowNetwork, Disk, Tracing} {
		_, known := missing[class]
		var err error
		switch {
		case known:
		case class != Tracing && !place.Inside():
			err = errors.New("there are no namespaces of our own here")
		case class == SlowNetwork && missing[Packets] != "":
			err = errors.New(missing[Packets])
		default:
			err = probes[class]()
		}
		if err != nil {
			missing[class] = err.Error()
		}
	}
}

// Excused reads .ci/optional: lines "class: reason". Empty lines and those that
// begin with # say nothing. No file excuses nothing.
func Excused(path string) (map[Class]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	excused := map[Class]string{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		class, reason, ok := strings.Cut(line, ":")
		if reason = strings.TrimSpace(reason); !ok || reason == "" {
			return nil, fmt.Errorf("%s:%d: %q is not \"class: reason\"", path, n, line)
		}
		excused[Class(strings.TrimSpace(class))] = reason
	}
	return excused, lines.Err()
}
