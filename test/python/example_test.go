package python

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxLines is what docs promise: a participant is that short.
const maxLines = 200

func TestExampleIsShort(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(example, "participant.py"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	if len(lines) >= maxLines {
		t.Errorf("participant.py has %d lines, want fewer than %d", len(lines), maxLines)
	}
	for i, line := range lines {
		if len(line) > 120 {
			t.Errorf("participant.py:%d has %d columns: short must not mean dense", i+1, len(line))
		}
	}
}

// TestGeneratedCodeIsThatOfTheProtos generates it once more with the pinned generator.
func TestGeneratedCodeIsThatOfTheProtos(t *testing.T) {
	fresh := t.TempDir()
	cmd := exec.Command(filepath.Join(example, "generate.sh"), fresh)
	cmd.Env = append(os.Environ(), environment(t)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	n := 0
	err := filepath.WalkDir(filepath.Join(example, "concordat"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".py" {
			return err
		}
		n++
		relative, err := filepath.Rel(example, path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(fresh, relative))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the protos say: run docs/examples/python/generate.sh", relative)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 5 {
		t.Errorf("only %d generated files", n)
	}
}
