package database

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Missing says which servers' programs are not there.
type Missing struct {
	// Servers are their names, and where they were looked for.
	Servers []string
	// Packages are Debian's that have them.
	Packages []string
}

// Install is the command that mends it on Debian.
func (m *Missing) Install() string {
	return "apt-get install --no-install-recommends " + strings.Join(m.Packages, " ")
}

func (m *Missing) Error() string {
	verb := "is"
	if len(m.Servers) > 1 {
		verb = "are"
	}
	return fmt.Sprintf("%s %s missing; as root, %s", strings.Join(m.Servers, " and "), verb, m.Install())
}

// Find looks for the programs of both servers, in a directory of each or, where
// that is empty, where they usually are. The error is a *Missing of all that
// is missing.
func Find(postgres, mariaDB string) error {
	_, err := findPostgres(postgres)
	_, other := findMariaDB(mariaDB)
	var all Missing
	for _, err := range []error{err, other} {
		m, ok := errors.AsType[*Missing](err)
		if err != nil && !ok {
			return err
		}
		if ok {
			all.Servers, all.Packages = append(all.Servers, m.Servers...), append(all.Packages, m.Packages...)
		}
	}
	if len(all.Servers) == 0 {
		return nil
	}
	return &all
}

// FindPostgres and FindMariaDB look for one of them.
func FindPostgres(dir string) error {
	_, err := findPostgres(dir)
	return err
}

// FindMariaDB is like FindPostgres.
func FindMariaDB(dir string) error {
	_, err := findMariaDB(dir)
	return err
}

// postgresDirs are where Debian has PostgreSQL, whose programs are not in $PATH.
const postgresDirs = "/usr/lib/postgresql/*/bin"

// findPostgres is the directory of the programs.
func findPostgres(dir string) (string, error) {
	if err := supported(); err != nil {
		return "", err
	}
	programs := []string{"postgres", "initdb"}
	missing := func(where string) error {
		return &Missing{[]string{"PostgreSQL (postgres and initdb, sought in " + where + ")"}, []string{"postgresql"}}
	}
	if dir != "" {
		if !has(dir, programs) {
			return "", missing(dir)
		}
		return dir, nil
	}
	if newest := newestPostgres(programs); newest != "" {
		return newest, nil
	}
	if path, err := exec.LookPath(programs[0]); err == nil && has(filepath.Dir(path), programs) {
		return filepath.Dir(path), nil
	}
	return "", missing(postgresDirs + " and $PATH")
}

func newestPostgres(programs []string) string {
	found, _ := filepath.Glob(postgresDirs)
	best, newest := "", 0
	for _, dir := range found {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > newest && has(dir, programs) {
			best, newest = dir, v
		}
	}
	return best
}

// mariaDBPrograms are the paths of what it takes.
type mariaDBPrograms struct{ server, install string }

// serverDirs are where systems have servers, which are not in everybody's $PATH.
var serverDirs = []string{"/usr/sbin", "/usr/local/sbin"}

func findMariaDB(dir string) (found mariaDBPrograms, err error) {
	if err := supported(); err != nil {
		return found, err
	}
	where := "$PATH and " + strings.Join(serverDirs, ", ")
	if dir != "" {
		where = dir
	}
	look := func(name string) string {
		if dir != "" {
			path, _ := exec.LookPath(filepath.Join(dir, name))
			return path
		}
		path, err := exec.LookPath(name)
		for i := 0; err != nil && i < len(serverDirs); i++ {
			path, err = exec.LookPath(filepath.Join(serverDirs[i], name))
		}
		return path
	}
	found = mariaDBPrograms{look("mariadbd"), look("mariadb-install-db")}
	if found.server == "" || found.install == "" {
		return found, &Missing{[]string{"MariaDB (mariadbd and mariadb-install-db, sought in " + where + ")"},
			[]string{"mariadb-server-core", "mariadb-client-core"}}
	}
	return found, nil
}

// has reports whether a directory has all programs.
func has(dir string, programs []string) bool {
	for _, name := range programs {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// supported: elsewhere servers would outlive a process that is killed, and
// their own processes could not be found.
func supported() error {
	if runtime.GOOS != "linux" {
		return errors.New("private database servers take Linux")
	}
	return nil
}
