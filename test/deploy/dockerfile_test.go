package deploy

import (
	"encoding/json"
	"fmt"
	goversion "go/version"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile: FROM golang AS build is in the stage that
// it begins, whose name is build.
type instruction struct {
	name  string
	flags map[string]string
	words []string // in the JSON form, its strings
	rest  string   // as it stands, without flags
	stage string
}

var instructions = []string{"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD", "ENV", "ARG", "LABEL"}

// parseDockerfile reads what we use of the format: no heredocs, no directives.
func parseDockerfile(text string) ([]instruction, error) {
	var list []instruction
	pending, stage := "", ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if more, ok := strings.CutSuffix(line, "\\"); ok {
			pending += more + " "
			continue
		}
		i, err := parseInstruction(pending + line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if i.name == "FROM" {
			if stage = ""; len(i.words) == 3 && strings.EqualFold(i.words[1], "AS") {
				stage = i.words[2]
			}
		} else if len(list) == 0 {
			return nil, fmt.Errorf("line %d: %s before FROM", n+1, i.name)
		}
		i.stage, pending = stage, ""
		list = append(list, i)
	}
	if pending != "" || len(list) == 0 {
		return nil, fmt.Errorf("it ends in the middle")
	}
	return list, nil
}

func parseInstruction(line string) (instruction, error) {
	name, rest, _ := strings.Cut(line, " ")
	i := instruction{name: strings.ToUpper(name), flags: map[string]string{}, rest: strings.TrimSpace(rest)}
	if !slices.Contains(instructions, i.name) || i.rest == "" {
		return i, fmt.Errorf("%q is no instruction", line)
	}
	for strings.HasPrefix(i.rest, "--") {
		flag, after, _ := strings.Cut(i.rest[2:], " ")
		key, value, _ := strings.Cut(flag, "=")
		i.flags[key], i.rest = value, strings.TrimSpace(after)
	}
	if strings.HasPrefix(i.rest, "[") {
		return i, json.Unmarshal([]byte(i.rest), &i.words)
	}
	i.words = strings.Fields(i.rest)
	return i, nil
}

func TestParseDockerfile(t *testing.T) {
	list, err := parseDockerfile("# x\nFROM a AS b\nRUN x && \\\n  # between\n  y\nFROM scratch\nCOPY --from=b --chown=1:1 /x /y\nCMD [\"a b\", \"c\"]\n")
	if err != nil || len(list) != 5 {
		t.Fatalf("%v, %v", list, err)
	}
	if run := list[1]; run.rest != "x &&  y" || run.stage != "b" {
		t.Errorf("got %+v", run)
	}
	if cp := list[3]; cp.flags["from"] != "b" || cp.flags["chown"] != "1:1" || !slices.Equal(cp.words, []string{"/x", "/y"}) || cp.stage != "" {
		t.Errorf("got %+v", cp)
	}
	if cmd := list[4]; !slices.Equal(cmd.words, []string{"a b", "c"}) {
		t.Errorf("got %+v", cmd)
	}
	for name, text := range map[string]string{
		"empty": "", "no instruction": "FROM a\nCPOY a b", "no FROM": "COPY a b", "nothing to do": "FROM a\nRUN", "cut off": "FROM a\nRUN x \\", "odd JSON": "FROM a\nCMD [\"a\", ]",
	} {
		if list, err := parseDockerfile(text); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

func readDockerfile(t *testing.T) []instruction {
	t.Helper()
	list, err := parseDockerfile(readFile(t, filepath.Join(docs, "deploy/docker/Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// only is the instruction of that name in a stage; there is one.
func only(t *testing.T, list []instruction, stage, name string) instruction {
	t.Helper()
	var found []instruction
	for _, i := range list {
		if i.stage == stage && i.name == name {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d %s in stage %q", len(found), name, stage)
	}
	return found[0]
}

// staged is a directory with what the build stage copies from the repository.
func staged(t *testing.T, list []instruction, without string) string {
	t.Helper()
	dir := t.TempDir()
	for _, i := range list {
		if i.stage != "build" || i.name != "COPY" || i.flags["from"] != "" {
			continue
		}
		for _, source := range i.words[:len(i.words)-1] {
			absolute, err := filepath.Abs(filepath.Join(root, source))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(absolute); err != nil {
				t.Errorf("COPY: %v", err)
			}
			if source != without {
				if err := os.Symlink(absolute, filepath.Join(dir, source)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return dir
}

// resolves reports whether the program's packages and embedded files are all there.
func resolves(t *testing.T, dir string) error {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// What the build stage copies is all that the program is made of.
func TestImageBuildHasEverything(t *testing.T) {
	list := readDockerfile(t)
	if err := resolves(t, staged(t, list, "")); err != nil {
		t.Error(err)
	}
	if resolves(t, staged(t, list, "fsm")) == nil {
		t.Error("the program is said to be whole without fsm")
	}
}

var goLine = regexp.MustCompile(`(?m)^go (\S+)$`)

// The image is built by a Go that is new enough, from what the build stage made,
// for a user of its own, and runs the program.
func TestImage(t *testing.T) {
	list := readDockerfile(t)
	from := only(t, list, "build", "FROM")
	version, _, _ := strings.Cut(strings.TrimPrefix(from.words[0], "golang:"), "-")
	need := goLine.FindStringSubmatch(readFile(t, filepath.Join(root, "go.mod")))[1]
	if !goversion.IsValid("go"+version) || goversion.Compare("go"+version, "go"+need) < 0 {
		t.Errorf("built with Go %q, and go.mod needs %s", version, need)
	}
	made := ""
	for _, i := range list {
		if i.stage == "build" && i.name == "RUN" {
			made += i.rest + "\n"
		}
	}
	if !strings.Contains(made, "CGO_ENABLED=0 go build ") || only(t, list, "", "FROM").rest != "scratch" {
		t.Error("an image without a libc takes a static program")
	}
	entry := only(t, list, "", "ENTRYPOINT").words
	program := ""
	for _, i := range list {
		if i.stage != "" || i.name != "COPY" {
			continue
		}
		if i.flags["from"] != "build" || !strings.Contains(made, i.words[0]) {
			t.Errorf("COPY %s: the build stage does not make it", i.rest)
		}
		if len(entry) == 1 && i.words[1] == entry[0] {
			program = i.words[0]
		}
	}
	if program == "" || !strings.Contains(made, "-o "+program+" .") {
		t.Errorf("it runs %q, which is not what was built", entry)
	}
	if err := understood(t, only(t, list, "", "CMD").words); err != nil {
		t.Error(err)
	}
	user := only(t, list, "", "USER").rest
	if strings.HasPrefix(user, "0") || strings.Trim(user, "0123456789:") != "" {
		t.Errorf("user %s: neither root, nor a name that the image lacks", user)
	}
}
