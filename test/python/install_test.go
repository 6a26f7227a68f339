package python

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/concordat-tx/concordat/test/debian"
)

// interpreter is python3 with pip.
func interpreter() (string, error) {
	return debian.Program("python3 with pip", func() (string, error) {
		if err := exec.Command("python3", "-m", "pip", "--version").Run(); err != nil {
			return "", err
		}
		return exec.LookPath("python3")
	}, "python3", "python3-pip")
}

// install puts what the requirements pin into a directory in the user's cache,
// which later runs find again, and never into the system. Without a cache it is in dir.
func install(dir string) (string, error) {
	pins := []string{filepath.Join(example, "requirements.txt"), filepath.Join(example, "requirements-generate.txt")}
	version, err := exec.Command(python, "-VV").Output()
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	digest.Write(version)
	var args []string
	for _, file := range pins {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		digest.Write(b)
		args = append(args, "-r", file)
	}
	if cache, err := os.UserCacheDir(); err == nil {
		dir = cache
	}
	target := filepath.Join(dir, "concordat-test", fmt.Sprintf("python-%x", digest.Sum(nil)[:8]))
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(target), "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh) // is gone if it became the target
	pip := exec.Command(python, append([]string{"-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", fresh}, args...)...)
	if out, err := pip.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(pip.Args, " "), err, out)
	}
	if err := os.Rename(fresh, target); err != nil && !errors.Is(err, fs.ErrExist) { // another run may have been faster
		return "", err
	}
	return target, nil
}
