//go:build linux

package place

import "github.com/concordat-tx/concordat/test/debian"

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
		if err := debian.Need(tool, packages[tool]); err != nil {
			return err
		}
	}
	return nil
}
