package database

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// programs makes a directory with such programs, which do nothing.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What is missing is named with its packages, whichever server's program it is.
func TestFind(t *testing.T) {
	postgres, mariaDB := programs(t, "postgres", "initdb"), programs(t, "mariadbd", "mariadb-install-db")
	for name, tc := range map[string]struct {
		postgres, mariaDB string
		packages          []string
		says              string
	}{
		"both are there": {postgres, mariaDB, nil, ""},
		"no PostgreSQL":  {mariaDB, mariaDB, []string{"postgresql"}, "PostgreSQL (postgres and initdb, sought in " + mariaDB + ") is missing"},
		"no MariaDB":     {postgres, postgres, []string{"mariadb-server-core", "mariadb-client-core"}, "MariaDB (mariadbd and mariadb-install-db, sought in " + postgres + ") is missing"},
		"half of each": {programs(t, "postgres"), programs(t, "mariadbd"), []string{"postgresql", "mariadb-server-core", "mariadb-client-core"},
			"are missing; as root, apt-get install --no-install-recommends postgresql mariadb-server-core mariadb-client-core"},
	} {
		err := Find(tc.postgres, tc.mariaDB)
		missing, _ := errors.AsType[*Missing](err)
		switch {
		case tc.packages == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.packages != nil && (missing == nil || !slices.Equal(missing.Packages, tc.packages) || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Programs in $PATH are taken where the system's own place has none.
func TestFindInPath(t *testing.T) {
	dir := programs(t, "mariadbd", "mariadb-install-db")
	t.Setenv("PATH", dir)
	found, err := findMariaDB("")
	if err != nil || found.server != filepath.Join(dir, "mariadbd") || found.install != filepath.Join(dir, "mariadb-install-db") {
		t.Errorf("got %+v, %v", found, err)
	}
}

// Whom a server runs as must get to its data; a server that could not says so
// before it is made.
func TestEnters(t *testing.T) {
	nobody := account{name: "nobody", uid: 65534, gid: 65534, other: true}
	closed := t.TempDir()
	inside := filepath.Join(closed, "inside")
	if err := errors.Join(os.Mkdir(inside, 0o755), os.Chmod(closed, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := nobody.enters("/usr/bin"); err != nil {
		t.Error(err)
	}
	err := nobody.enters(inside)
	if err == nil || !strings.Contains(err.Error(), "nobody, who may not enter "+filepath.Dir(inside)) {
		t.Errorf("got %v", err)
	}
}
