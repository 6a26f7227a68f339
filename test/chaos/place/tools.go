//go:build linux

package place

import (
	"fmt"
	"os"
	"os/exec"
)

// packages hold the tools, by the name that Debian gives them.
var packages = map[string]string{
	"ip": "iproute2", "tc": "iproute2", "iptables": "iptables", "nsenter": "util-linux",
	"mount": "mount", "mkfs.ext4": "e2fsprogs", "strace": "strace",
}

// Need makes sure that a tool is there, and installs it if this is root on a
// system with apt-get. It must be called before Enter, which leaves the
// machine's network.
func Need(tools ...string) error {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Geteuid() != 0 {
			return fmt.Errorf("%s is missing: install %s", tool, packages[tool])
		}
		if _, err := run("apt-get", "install", "-y", "-qq", packages[tool]); err != nil {
			if _, err := run("apt-get", "update", "-qq"); err != nil {
				return fmt.Errorf("%s is missing: %w", tool, err)
			}
			if _, err := run("apt-get", "install", "-y", "-qq", packages[tool]); err != nil {
				return fmt.Errorf("%s is missing: %w", tool, err)
			}
		}
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing, %s or not", tool, packages[tool])
		}
	}
	return nil
}
