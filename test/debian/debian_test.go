package debian

import (
	"os/exec"
	"strings"
	"testing"
)

// What is missing and cannot be installed fails by the names of the packages.
func TestMissingProgramNamesThePackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no apt-get here
	nowhere := func() (string, error) { return exec.LookPath("a-server-that-nobody-has") }
	_, err := Program("The server", nowhere, "one-package", "another")
	if err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends one-package another") {
		t.Errorf("got %v", err)
	}
}

// Nothing is installed where the programs are, or have come meanwhile.
func TestProgramThatIsThereIsTaken(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	looks := 0
	late := func() (string, error) {
		if looks++; looks == 1 {
			return exec.LookPath("a-server-that-nobody-has")
		}
		return "here", nil
	}
	for range 2 {
		if found, err := Program("The server", late, "one-package"); err != nil || found != "here" {
			t.Errorf("%q, %v", found, err)
		}
	}
}
