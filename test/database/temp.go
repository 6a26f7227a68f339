package database

import (
	"os"
	"testing"
)

// OpenTemp is a temporary directory that everybody may enter: whom root runs
// database servers as must.
func OpenTemp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "concordat-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
