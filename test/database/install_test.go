package database

import (
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/node/local/database"
)

// What is missing and cannot be installed fails by the names of the packages.
func TestMissingServerNamesThePackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no apt-get here
	err := installed(func() error { return database.Find(t.TempDir(), t.TempDir()) })
	if err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends postgresql mariadb-server-core mariadb-client-core") {
		t.Errorf("got %v", err)
	}
}

// Nothing is installed where the programs are, or have come meanwhile.
func TestServerThatIsThereIsTaken(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	looks := 0
	late := func() error {
		if looks++; looks == 1 {
			return &database.Missing{Servers: []string{"The server"}, Packages: []string{"one-package"}}
		}
		return nil
	}
	for range 2 {
		if err := installed(late); err != nil {
			t.Error(err)
		}
	}
}
