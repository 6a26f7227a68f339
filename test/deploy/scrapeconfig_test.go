package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// decodeStrictly reads a YAML file; a key that into does not have is an error.
func decodeStrictly(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// scrapeConfig is what we use of prometheus.yml.
type scrapeConfig struct {
	Global struct {
		ScrapeInterval     string `yaml:"scrape_interval"`
		EvaluationInterval string `yaml:"evaluation_interval"`
	}
	RuleFiles []string `yaml:"rule_files"`
	Scrape    []struct {
		Job         string `yaml:"job_name"`
		HonorLabels bool   `yaml:"honor_labels"`
		Static      []struct {
			Targets []string
			Labels  map[string]string
		} `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

func readPrometheus(t *testing.T) *scrapeConfig {
	t.Helper()
	cfg := &scrapeConfig{}
	decodeStrictly(t, filepath.Join(docs, "deploy/prometheus/prometheus.yml"), cfg)
	return cfg
}

// target is the job of a node or participant, and the labels that Prometheus
// gives to what it scrapes there.
func (c *scrapeConfig) target(name string) (job string, labels map[string]string, ok bool) {
	for _, s := range c.Scrape {
		for _, static := range s.Static {
			if static.Labels["node"] != name && static.Labels["participant"] != name || len(static.Targets) != 1 {
				continue
			}
			labels = map[string]string{"job": s.Job, "instance": static.Targets[0]}
			for k, v := range static.Labels {
				labels[k] = v
			}
			return s.Job, labels, true
		}
	}
	return "", nil, false
}

// A participant's metrics name it already: without honor_labels Prometheus
// would rename that label.
func TestScrapedLabelsDoNotClash(t *testing.T) {
	cfg, c := readPrometheus(t), observe(t)
	for _, s := range cfg.Scrape {
		if s.HonorLabels {
			continue
		}
		for _, static := range s.Static {
			for label := range static.Labels {
				for name, m := range c.metrics {
					if m.own[label] && m.by["node"] && s.Job == "concordat-node" {
						t.Errorf("job %s gives label %s, which %s has already", s.Job, label, name)
					}
				}
			}
		}
	}
	for _, file := range cfg.RuleFiles {
		if _, err := os.Stat(filepath.Join(docs, "deploy/prometheus", file)); err != nil {
			t.Error(err)
		}
	}
}
