package deploy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metric is what is known of one family of metrics.
type metric struct {
	kind, help string
	labels     map[string]map[string]bool // values by name
	series     int                        // the most that one process showed
	// own are the labels that the program gives, without those of the scrape.
	own map[string]bool
	by  map[string]bool // "node", "participant": who shows it
}

// catalog is every metric that was scraped, by name.
type catalog struct{ metrics map[string]*metric }

func newCatalog() *catalog { return &catalog{map[string]*metric{}} }

// scrape reads what one process shows into c. target are the labels that
// Prometheus adds; role says what the process is.
func (c *catalog) scrape(ctx context.Context, address, role string, target map[string]string) error {
	families, err := scrape(ctx, address)
	if err != nil {
		return err
	}
	for name, f := range families {
		c.add(name, role, f, target)
	}
	c.up(target)
	return nil
}

func scrape(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}

func (c *catalog) family(name, kind, help string) *metric {
	m := c.metrics[name]
	if m == nil {
		m = &metric{kind: kind, help: help, labels: map[string]map[string]bool{}, own: map[string]bool{}, by: map[string]bool{}}
		c.metrics[name] = m
	}
	return m
}

func (m *metric) note(label, value string) {
	if m.labels[label] == nil {
		m.labels[label] = map[string]bool{}
	}
	m.labels[label][value] = true
}

func (c *catalog) add(name, role string, f *dto.MetricFamily, target map[string]string) {
	m := c.family(name, strings.ToLower(f.GetType().String()), f.GetHelp())
	m.by[role] = true
	m.series = max(m.series, len(f.GetMetric()))
	for label, value := range target {
		m.note(label, value)
	}
	for _, s := range f.GetMetric() {
		for _, l := range s.GetLabel() {
			m.own[l.GetName()] = true
			m.note(l.GetName(), l.GetValue())
		}
	}
}

// up is what Prometheus itself says of a target.
func (c *catalog) up(target map[string]string) {
	m := c.family("up", "gauge", "")
	for label, value := range target {
		m.note(label, value)
	}
}

// component is the family behind a name in an expression: a histogram's
// buckets, sum and count have names of their own. kind is the component's.
func (c *catalog) component(name string) (m *metric, kind string, labels []string) {
	if m := c.metrics[name]; m != nil {
		switch kind = m.kind; kind {
		case "histogram":
			kind = "bare histogram" // has no samples of its own name in the classic form
		case "summary":
			kind = "gauge"
		}
		return m, kind, slices.Collect(maps.Keys(m.labels))
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, found := strings.CutSuffix(name, suffix)
		m := c.metrics[base]
		if !found || m == nil || m.kind != "histogram" && (m.kind != "summary" || suffix == "_bucket") {
			continue
		}
		labels := slices.Collect(maps.Keys(m.labels))
		if suffix == "_bucket" {
			labels = append(labels, "le")
		}
		return m, "counter", labels
	}
	return nil, "", nil
}

// value is the sum of the samples of a family with these labels.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
samples:
	for _, s := range families[name].GetMetric() {
		for _, want := range labels {
			if !slices.ContainsFunc(s.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want }) {
				continue samples
			}
		}
		sum += s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
	}
	return sum
}
