package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Grafana of compose.yaml finds the dashboard and Prometheus where its
// provisioning says.
func TestGrafanaProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, Type, UID, Access, URL string
			IsDefault                    bool              `yaml:"isDefault"`
			JSONData                     map[string]string `yaml:"jsonData"`
		}
	}
	decodeStrictly(t, filepath.Join(docs, "deploy/grafana/provisioning/datasources/prometheus.yml"), &sources)
	var boards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type     string
			AllowUIUpdates bool `yaml:"allowUiUpdates"`
			Options        struct{ Path string }
		}
	}
	decodeStrictly(t, filepath.Join(docs, "deploy/grafana/provisioning/dashboards/concordat.yml"), &boards)
	if len(sources.Datasources) != 1 || len(boards.Providers) != 1 {
		t.Fatalf("got %+v and %+v", sources, boards)
	}
	f := readCompose(t)
	grafana, source := f.Services["grafana"], sources.Datasources[0]
	if source.Type != "prometheus" || !source.IsDefault || source.URL != "http://prometheus:9090" || len(f.Services["prometheus"].Ports) != 1 ||
		!strings.HasSuffix(f.Services["prometheus"].Ports[0], ":9090") {
		t.Errorf("source %+v is not the service prometheus", source)
	}
	if interval := readPrometheus(t).Global.ScrapeInterval; source.JSONData["timeInterval"] != interval {
		t.Errorf("$__rate_interval is made for scrapes every %s, not %s", source.JSONData["timeInterval"], interval)
	}
	board := boards.Providers[0].Options.Path + "/concordat.json"
	if !slices.Contains(grafana.Volumes, "../grafana/concordat.json:"+board+":ro") || grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] != board {
		t.Errorf("the dashboard is not at %s in %v", board, grafana.Volumes)
	}
}
