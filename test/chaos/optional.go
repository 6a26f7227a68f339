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
	Network:     {"ip", "nsenter", "iptables"},
	Packets:     {"ip", "nsenter", "iptables"},
	SlowNetwork: {"ip", "nsenter", "tc"},
	Disk:        {"mount", "mkfs.ext4"},
	Tracing:     {"strace"},
}

// Prepare finds or installs what each class needs, before place.Enter, and
// says why a class cannot run.
func Prepare() map[Class]error {
	missing := map[Class]error{}
	for class, names := range tools {
		if err := place.Need(names...); err != nil {
			missing[class] = err
		}
	}
	return missing
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
