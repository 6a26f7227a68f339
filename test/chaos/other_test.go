//go:build !linux

package chaos

import "testing"

// TestChaosNeedsLinux says that nothing was tested.
func TestChaosNeedsLinux(t *testing.T) {
	t.Skip("namespaces, loop devices and strace are Linux's: no fault was made")
}
