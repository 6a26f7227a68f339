package deploy

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/prometheus/common/model"

	"github.com/concordat-tx/concordat/test/debian"
)

// ruleFile is what we use of rules.yml.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

func readRules(t *testing.T) *ruleFile {
	t.Helper()
	f := &ruleFile{}
	decodeStrictly(t, filepath.Join(docs, "deploy/prometheus/rules.yml"), f)
	return f
}

// readRecorded reads every recording rule, so that what follows may use them.
func (r *reader) readRecorded(f *ruleFile) {
	for _, g := range f.Groups {
		for _, x := range g.Rules {
			if x.Record != "" {
				r.recorded[x.Record] = r.read(x.Expr)
			}
		}
	}
}

// Every expression of the rules is one about metrics that exist, and every alert
// says how bad it is, what it is about, and what to do.
func TestRules(t *testing.T) {
	f, r := readRules(t), newReader(observe(t))
	r.readRecorded(f)
	seen, alerts := map[string]bool{}, 0
	for _, g := range f.Groups {
		for _, x := range g.Rules {
			name := x.Record + x.Alert
			if seen[name] || (x.Record == "") == (x.Alert == "") {
				t.Errorf("group %s: %q is there twice, or is not one of record and alert", g.Name, name)
			}
			seen[name] = true
			if x.Alert != "" {
				alerts++
				given := r.read(x.Expr)
				r.flaws = append(r.flaws, alertFlaws(x, given)...)
			}
			for _, what := range r.flaws {
				t.Errorf("%s: %s", name, what)
			}
			r.flaws = nil
		}
	}
	if alerts < 15 {
		t.Errorf("only %d alerts", alerts)
	}
}

var alertName = regexp.MustCompile(`^Concordat[A-Z]\w+$`)

// alertFlaws are what an alert with these labels lacks.
func alertFlaws(x rule, given set) (flaws []string) {
	flaw := func(format string, args ...any) { flaws = append(flaws, fmt.Sprintf(format, args...)) }
	if !alertName.MatchString(x.Alert) {
		flaw("not a name")
	}
	if s := x.Labels["severity"]; s != "critical" && s != "warning" {
		flaw("severity is %q", s)
	}
	if _, err := model.ParseDuration(x.For); x.For != "" && err != nil {
		flaw("for: %v", err)
	}
	if !given["cluster"] {
		flaw("does not say which cluster")
	}
	for _, what := range []string{"summary", "description", "action"} {
		text, err := expand(x.Annotations[what], given)
		switch {
		case err != nil:
			flaw("%s: %v", what, err)
		case !strings.HasSuffix(text, ".") || len(text) < 10:
			flaw("%s is no sentence: %q", what, text)
		}
		delete(x.Annotations, what)
	}
	for what := range x.Annotations {
		flaw("nobody knows an annotation %s", what)
	}
	return flaws
}

// expand is a text as Prometheus would make it, of an alert with these labels.
func expand(text string, given set) (string, error) {
	values := map[string]string{}
	for name := range given {
		values[name] = name
	}
	number := func(float64) string { return "1" }
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"humanize": number, "humanizeDuration": number, "humanizePercentage": number,
	}).Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Labels": values, "Value": 1.0})
	return b.String(), err
}

func TestAlertFlawsAreFound(t *testing.T) {
	right := func() rule {
		return rule{Alert: "ConcordatOdd", For: "1m", Labels: map[string]string{"severity": "warning"}, Annotations: map[string]string{
			"summary": "Cluster {{ $labels.cluster }} is odd.", "description": "It lasted {{ $value | humanizeDuration }}.", "action": "Look at its log.",
		}}
	}
	for name, tc := range map[string]struct {
		do    func(x *rule, given set)
		found int
	}{
		"right":         {func(*rule, set) {}, 0},
		"no severity":   {func(x *rule, _ set) { x.Labels = nil }, 1},
		"no action":     {func(x *rule, _ set) { delete(x.Annotations, "action") }, 1},
		"no such label": {func(x *rule, _ set) { x.Annotations["summary"] = "Node {{ $labels.node }} is odd." }, 1},
		"odd template":  {func(x *rule, _ set) { x.Annotations["action"] = "Look at {{ $labels.cluster." }, 1},
		"odd time":      {func(x *rule, _ set) { x.For = "1 minute" }, 1},
		"odd name":      {func(x *rule, _ set) { x.Alert = "x" }, 1},
		"odd text":      {func(x *rule, _ set) { x.Annotations["runbook"] = "https://nowhere" }, 1},
		"no cluster":    {func(x *rule, given set) { delete(given, "cluster"); x.Annotations["summary"] = "Something is odd." }, 1},
	} {
		x, given := right(), setOf("cluster")
		tc.do(&x, given)
		if got := alertFlaws(x, given); len(got) != tc.found {
			t.Errorf("%s: found %q, want %d", name, got, tc.found)
		}
	}
}

var quotedCommand = regexp.MustCompile(`'concordat ([^']+)'`)

// Commands that an alert tells people to run exist.
func TestCommandsOfRulesExist(t *testing.T) {
	n := 0
	for _, g := range readRules(t).Groups {
		for _, x := range g.Rules {
			for _, m := range quotedCommand.FindAllStringSubmatch(x.Annotations["action"], -1) {
				n++
				if err := understood(t, strings.Fields(m[1])); err != nil {
					t.Errorf("%s: %v", x.Alert, err)
				}
			}
		}
	}
	if n < 4 {
		t.Errorf("only %d commands", n)
	}
}

// The alerts come when they should, by Prometheus' own test of rules.
func TestRulesFire(t *testing.T) {
	if err := debian.Need("promtool", "prometheus"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "test", "rules", "rules_test.yml")
	cmd.Dir = filepath.Join(docs, "deploy/prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
