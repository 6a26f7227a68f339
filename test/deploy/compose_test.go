package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// composeFile is what we use of compose.yaml.
type composeFile struct {
	Name     string
	XNode    service `yaml:"x-node"`
	XParty   service `yaml:"x-participant"`
	Services map[string]service
	Volumes  map[string]struct{}
}

type service struct {
	Image, Restart, User string
	Build                struct{ Context, Dockerfile string }
	Command, Ports       []string
	Volumes              []string
	DependsOn            []string `yaml:"depends_on"`
	Environment          map[string]string
	ReadOnly             bool     `yaml:"read_only"`
	CapDrop              []string `yaml:"cap_drop"`
	SecurityOpt          []string `yaml:"security_opt"`
	StopGracePeriod      string   `yaml:"stop_grace_period"`
	Ulimits              map[string]int
	Healthcheck          struct {
		Test              []string
		Interval, Timeout string
		Retries           int
	}
}

const composeDir = "deploy/docker"

func readCompose(t *testing.T) *composeFile {
	t.Helper()
	f := &composeFile{}
	decodeStrictly(t, filepath.Join(docs, composeDir, "compose.yaml"), f)
	return f
}

// ours reports whether a service runs our program.
func (s *service) ours() bool { return s.Image == "concordat:local" }

// Every command of ours is understood, and every name in the file means something.
func TestCompose(t *testing.T) {
	f := readCompose(t)
	image := readDockerfile(t)
	entry, user := only(t, image, "", "ENTRYPOINT").words, only(t, image, "", "USER").rest
	published, mounted := map[string]string{}, map[string]bool{}
	for name, s := range f.Services {
		for _, other := range s.DependsOn {
			if _, ok := f.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
		for _, port := range s.Ports {
			parts := strings.Split(port, ":")
			if len(parts) != 3 || parts[0] != "127.0.0.1" || published[parts[1]] != "" {
				t.Errorf("%s: port %s is taken by %q, or open to everybody", name, port, published[parts[1]])
			}
			published[parts[1]] = name
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Join(docs, composeDir, source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if _, ok := f.Volumes[source]; !ok || mounted[source] {
				t.Errorf("%s: volume %s is not there, or another's", name, source)
			}
			mounted[source] = true
		}
		if !s.ours() {
			if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "latest" || s.Build.Context != "" {
				t.Errorf("%s: image %q has no version", name, s.Image)
			}
			continue
		}
		if err := understood(t, s.Command); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.User != user || !s.ReadOnly || s.Restart != "always" || s.StopGracePeriod != "15s" {
			t.Errorf("%s: %+v", name, s)
		}
		if check := s.Healthcheck.Test; len(check) > 0 {
			if err := understood(t, check[2:]); err != nil || check[0] != "CMD" || !slices.Equal(check[1:2], entry) {
				t.Errorf("%s: healthcheck %q: %v", name, check, err)
			}
		}
	}
	for volume := range f.Volumes {
		if !mounted[volume] {
			t.Errorf("nobody uses volume %s", volume)
		}
	}
}

// One service builds the image, from the repository, and all others of ours
// come after it.
func TestComposeBuildsTheImage(t *testing.T) {
	f := readCompose(t)
	var builders []string
	for name, s := range f.Services {
		if s.Build.Context == "" {
			continue
		}
		builders = append(builders, name)
		context := filepath.Join(docs, composeDir, s.Build.Context)
		if _, err := os.Stat(filepath.Join(context, "go.mod")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
	}
	if len(builders) != 1 {
		t.Fatalf("built by %v", builders)
	}
	for name, s := range f.Services {
		if s.ours() && name != builders[0] && !slices.Contains(s.DependsOn, builders[0]) {
			t.Errorf("%s may start before there is an image", name)
		}
	}
}

// What listens is exposed by the image, and what is published listens.
func TestComposePorts(t *testing.T) {
	exposed := only(t, readDockerfile(t), "", "EXPOSE").words
	for name, s := range readCompose(t).Services {
		if !s.ours() {
			continue
		}
		var listens []string
		for _, w := range s.Command {
			if port, ok := strings.CutPrefix(w, "0.0.0.0:"); ok {
				listens = append(listens, port)
				if !slices.Contains(exposed, port) {
					t.Errorf("%s listens on %s, which the image does not expose", name, port)
				}
			}
		}
		for _, port := range s.Ports {
			if inside := port[strings.LastIndex(port, ":")+1:]; !slices.Contains(listens, inside) {
				t.Errorf("%s: nothing listens on %s", name, inside)
			}
		}
	}
}

// The commands of the services run a cluster that commits, whose health checks
// pass, and which Prometheus finds where prometheus.yml says.
func TestComposeRunsACluster(t *testing.T) {
	f, h, r := readCompose(t), newHosts(t), newRunner(t)
	data := t.TempDir()
	names := slices.Sorted(maps.Keys(f.Services))
	host := regexp.MustCompile(`\b(` + strings.Join(names, "|") + `):`)
	// here is a word of a service as it is on this machine.
	here := func(name, word string) string {
		word = strings.NewReplacer("0.0.0.0:", h.of(name)+":", "127.0.0.1:", h.of(name)+":", "/data/", data+"/").Replace(word)
		return host.ReplaceAllStringFunc(word, func(m string) string { return h.of(strings.TrimSuffix(m, ":")) + ":" })
	}
	var nodes, parties []string
	for _, name := range names {
		s := f.Services[name]
		if !s.ours() {
			continue
		}
		var words, env []string
		for _, w := range s.Command {
			words = append(words, here(name, w))
		}
		for variable, value := range s.Environment {
			env = append(env, variable+"="+here(name, value))
		}
		if words[0] == "server" {
			nodes = append(nodes, name)
		} else {
			parties = append(parties, name)
		}
		r.start(name, words, env)
	}
	r.commits([]string{h.of(nodes[0]) + ":7001"}, parties...)
	for _, name := range nodes {
		var check []string
		for _, w := range f.Services[name].Healthcheck.Test[2:] {
			check = append(check, here(name, w))
		}
		eventually(t, name+" is healthy", func() bool {
			return exec.CommandContext(t.Context(), binary, check...).Run() == nil
		})
	}
	targets := 0
	for _, job := range readPrometheus(t).Scrape {
		for _, static := range job.Static {
			for _, address := range static.Targets {
				targets++
				families, err := scrape(within(t, 30*time.Second), here("prometheus", address))
				want := map[string]string{"concordat-node": "concordat_leader", "concordat-participant": "concordat_participant_prepared"}[job.Job]
				if err != nil || families[want] == nil {
					t.Errorf("%s of job %s does not show %q: %v", address, job.Job, want, err)
				}
			}
		}
	}
	if targets != len(nodes)+len(parties) {
		t.Errorf("%d targets for %v and %v", targets, nodes, parties)
	}
}
