package deploy

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dashboard is what we use of Grafana's format.
type dashboard struct {
	Title, UID  string
	Panels      []panel
	Templating  struct{ List []variable }
	Annotations struct {
		List []struct{ Name, Expr, TitleFormat string }
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []target
}

type target struct {
	RefID, Expr, LegendFormat string
	Datasource                struct{ UID string }
}

type variable struct {
	Name  string
	Type  string
	Query any
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	d := &dashboard{}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(docs, "deploy/grafana/concordat.json"))), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// filled is an expression with values for the dashboard's variables; what
// nobody defines is left.
func (d *dashboard) filled(expr string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "1m")
	for _, v := range d.Templating.List {
		expr = strings.ReplaceAll(expr, "$"+v.Name, ".*")
	}
	return expr
}

var (
	placeholder = regexp.MustCompile(`{{\s*(\w+)\s*}}`)
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
)

// flawsOf are what is wrong with an expression and the legend made of its labels.
func (d *dashboard) flawsOf(r *reader, expr, legend string) []string {
	r.flaws = nil
	given := r.read(d.filled(expr))
	for _, m := range placeholder.FindAllStringSubmatch(legend, -1) {
		if !given[m[1]] {
			r.flaw("the legend names %s, and the labels are %s", m[1], given)
		}
	}
	return r.flaws
}

// Every panel is about metrics that exist, used as what they are.
func TestDashboard(t *testing.T) {
	d, r := readDashboard(t), newReader(observe(t))
	r.readRecorded(readRules(t))
	expressions := 0
	for i := range d.Panels {
		p := &d.Panels[i]
		refs := map[string]bool{}
		for _, q := range p.Targets {
			expressions++
			for _, what := range d.flawsOf(r, q.Expr, q.LegendFormat) {
				t.Errorf("panel %q: %s", p.Title, what)
			}
			if want := unitOf(q.Expr, r.names); p.FieldConfig.Defaults.Unit != want {
				t.Errorf("panel %q: the unit is %s, and %s gives %s", p.Title, p.FieldConfig.Defaults.Unit, q.Expr, want)
			}
			if refs[q.RefID] || q.RefID == "" || q.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: query %q is there twice or asks another data source", p.Title, q.RefID)
			}
			refs[q.RefID] = true
		}
		if row := p.Type == "row"; row != (len(p.Targets) == 0) || !row && p.Description == "" {
			t.Errorf("panel %q shows nothing, or does not say what", p.Title)
		}
	}
	for _, a := range d.Annotations.List {
		for _, what := range d.flawsOf(r, a.Expr, a.TitleFormat) {
			t.Errorf("annotation %q: %s", a.Name, what)
		}
	}
	if expressions < 60 || len(d.Annotations.List) == 0 {
		t.Errorf("only %d expressions", expressions)
	}
}

// unitOf is what an expression over these families must be shown in.
func unitOf(expr string, names []string) string {
	switch first := names[0]; {
	case first == "process_cpu_seconds_total":
		return "short" // cores
	case strings.Contains(first, "_seconds") && !strings.HasSuffix(first, "_seconds_count"):
		return "s"
	case strings.HasSuffix(first, "_bytes"):
		return "bytes"
	case strings.HasSuffix(first, "_ratio"), strings.Contains(expr, "outcome=\"ABORT\"") && strings.Contains(expr, " / "):
		return "percentunit"
	case strings.Contains(expr, "rate(") && !strings.Contains(expr, " / "):
		return "ops"
	}
	return "short"
}

// Variables are filled from metrics that exist.
func TestDashboardVariables(t *testing.T) {
	d, r := readDashboard(t), newReader(observe(t))
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		query, _ := v.Query.(map[string]any)
		m := labelValues.FindStringSubmatch(fmt.Sprint(query["query"]))
		if m == nil {
			t.Errorf("variable %s: %v does not list a label's values", v.Name, v.Query)
			continue
		}
		if given := r.read(d.filled(m[1])); !given[m[2]] || m[2] != v.Name {
			t.Errorf("variable %s is filled from label %s of %s", v.Name, m[2], given)
		}
	}
	for _, what := range r.flaws {
		t.Error(what)
	}
}

// Panels lie side by side, each with an id of its own.
func TestDashboardLayout(t *testing.T) {
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %q: id %d is there twice, or it has no title", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("panel %q is not within 24 columns: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
