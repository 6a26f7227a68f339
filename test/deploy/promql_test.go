package deploy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// set is of names of labels.
type set map[string]bool

func setOf(names ...string) set {
	s := set{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

func (s set) String() string { return strings.Join(slices.Sorted(maps.Keys(s)), ", ") }

// reader goes through expressions and notes what is wrong with them.
type reader struct {
	*catalog
	recorded map[string]set // the labels of recording rules, by name
	flaws    []string
	// names are the families of the expression read last, in order.
	names []string
}

func newReader(c *catalog) *reader { return &reader{catalog: c, recorded: map[string]set{}} }

func (r *reader) flaw(format string, args ...any) {
	r.flaws = append(r.flaws, fmt.Sprintf(format, args...))
}

// use is what becomes of a selector's samples.
type use int

const (
	plain    use = iota
	growth       // rate and the like: wants a counter
	slope        // delta and the like: wants a gauge
	quantile     // of histogram_quantile: wants buckets
)

var functions = map[string]use{
	"rate": growth, "irate": growth, "increase": growth, "resets": growth,
	"delta": slope, "idelta": slope, "deriv": slope, "predict_linear": slope,
	"changes": plain, "max_over_time": plain, "min_over_time": plain, "avg_over_time": plain,
	"clamp_min": plain, "clamp_max": plain, "abs": plain, "time": plain, "histogram_quantile": quantile,
}

// read parses an expression and returns the labels of what it gives.
func (r *reader) read(text string) set {
	r.names = nil
	e, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		r.flaw("%v", err)
		return set{}
	}
	given := r.labels(e, plain)
	if given["le"] {
		r.flaw("buckets are left as they are")
	}
	return given
}

func (r *reader) labels(e parser.Expr, u use) set {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return r.selector(e, u)
	case *parser.MatrixSelector:
		return r.labels(e.VectorSelector, u)
	case *parser.SubqueryExpr:
		return r.labels(e.Expr, u)
	case *parser.ParenExpr:
		return r.labels(e.Expr, u)
	case *parser.UnaryExpr:
		return r.labels(e.Expr, u)
	case *parser.Call:
		return r.call(e)
	case *parser.AggregateExpr:
		return r.aggregate(e, u)
	case *parser.BinaryExpr:
		return r.binary(e, u)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return set{}
	}
	r.flaw("%s: an expression of a kind that this test does not know", e)
	return set{}
}

func (r *reader) call(e *parser.Call) set {
	u, known := functions[e.Func.Name]
	if !known {
		r.flaw("this test does not know %s", e.Func.Name)
	}
	given := set{}
	for _, arg := range e.Args {
		if t := arg.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
			given = r.labels(arg, u)
		}
	}
	if u == quantile {
		if !given["le"] {
			r.flaw("%s: the buckets are gone", e)
		}
		delete(given, "le")
	}
	return given
}

func (r *reader) aggregate(e *parser.AggregateExpr, u use) set {
	inner := r.labels(e.Expr, u)
	for _, name := range e.Grouping {
		if !inner[name] {
			r.flaw("%s: what it groups has no label %s, only %s", e, name, inner)
		}
	}
	if !e.Without {
		return setOf(e.Grouping...)
	}
	given := maps.Clone(inner)
	for _, name := range e.Grouping {
		delete(given, name)
	}
	return given
}

func (r *reader) binary(e *parser.BinaryExpr, u use) set {
	left, right := r.labels(e.LHS, u), r.labels(e.RHS, u)
	switch {
	case e.LHS.Type() == parser.ValueTypeScalar:
		return right
	case e.RHS.Type() == parser.ValueTypeScalar:
		return left
	}
	m := e.VectorMatching
	for _, name := range m.MatchingLabels {
		if !left[name] || !right[name] {
			r.flaw("%s: not both sides have label %s", e, name)
		}
	}
	switch {
	case m.Card == parser.CardOneToMany:
		return right
	case m.Card == parser.CardManyToOne || m.Card == parser.CardManyToMany:
		return left
	case m.On:
		return setOf(m.MatchingLabels...)
	}
	if len(m.MatchingLabels) == 0 && !maps.Equal(left, right) {
		r.flaw("%s: its sides never match: %s and %s", e, left, right)
	}
	return left
}

func (r *reader) selector(e *parser.VectorSelector, u use) set {
	r.names = append(r.names, e.Name)
	if given, ok := r.recorded[e.Name]; ok {
		if u != plain {
			r.flaw("%s is recorded as it is to be used", e.Name)
		}
		return given
	}
	m, kind, names := r.component(e.Name)
	if m == nil {
		r.flaw("nobody shows %s", e.Name)
		return set{}
	}
	switch {
	case kind == "bare histogram":
		r.flaw("%s is a histogram: it has buckets, a sum and a count", e.Name)
	case kind == "counter" && u != growth:
		r.flaw("%s is a counter: only its growth says anything", e.Name)
	case kind == "gauge" && u == growth:
		r.flaw("%s is a gauge: it may fall", e.Name)
	case u == quantile:
		r.flaw("%s: buckets are counters", e.Name)
	}
	for _, matcher := range e.LabelMatchers {
		if matcher.Name != model.MetricNameLabel {
			r.match(e.Name, m, matcher)
		}
	}
	return setOf(names...)
}

// alternatives are what a matcher may match, if it is plain enough to say.
var alternatives = regexp.MustCompile(`^[\w/.-]+(\|[\w/.-]+)*$`)

// match: the label is there, and each value that is asked for was seen.
func (r *reader) match(name string, m *metric, matcher *labels.Matcher) {
	values := m.labels[matcher.Name]
	if values == nil {
		r.flaw("%s has no label %s", name, matcher.Name)
		return
	}
	for value := range strings.SplitSeq(matcher.Value, "|") {
		if alternatives.MatchString(matcher.Value) && !values[value] {
			r.flaw("%s: %s is never %s", name, matcher.Name, value)
		}
	}
}

// Mistakes that people make are found.
func TestFlawsAreFound(t *testing.T) {
	c := newCatalog()
	c.up(map[string]string{"job": "concordat-node", "cluster": "demo", "node": "n1"})
	for name, kind := range map[string]string{"c_total": "counter", "g": "gauge", "h_seconds": "histogram"} {
		m := c.family(name, kind, "")
		m.note("cluster", "demo")
		m.note("node", "n1")
	}
	for name, tc := range map[string]struct{ expr, want string }{
		"right":                 {`sum by (cluster) (rate(c_total{node="n1"}[5m])) / sum by (cluster) (rate(h_seconds_count[5m])) > 0.5`, ""},
		"a right quantile":      {`histogram_quantile(0.9, sum by (node, le) (rate(h_seconds_bucket[5m])))`, ""},
		"a right join":          {`max by (cluster) (g) - on (cluster) group_right () g`, ""},
		"no expression":         {`sum by (`, "parse error"},
		"no such metric":        {`g_total`, "nobody shows"},
		"no such label":         {`g{peer="n1"}`, "no label peer"},
		"no such value":         {`g{node=~"n1|n7"}`, "is never n7"},
		"no such job":           {`up{job="nodes"}`, "is never nodes"},
		"grouped by nothing":    {`sum by (peer) (g)`, "no label peer"},
		"lost by grouping":      {`sum by (node) (sum by (cluster) (g))`, "no label node"},
		"a counter as it is":    {`sum(c_total)`, "only its growth"},
		"a gauge's rate":        {`rate(g[5m])`, "may fall"},
		"a counter's slope":     {`deriv(c_total[5m])`, "only its growth"},
		"a histogram as it is":  {`rate(h_seconds[5m])`, "is a histogram"},
		"a quantile of a gauge": {`histogram_quantile(0.9, g)`, "buckets"},
		"a quantile without le": {`histogram_quantile(0.9, sum by (node) (rate(h_seconds_bucket[5m])))`, "buckets are gone"},
		"buckets shown":         {`rate(h_seconds_bucket[5m])`, "left as they are"},
		"unequal sides":         {`sum by (cluster) (g) / sum by (node) (g)`, "never match"},
		"joined on nothing":     {`g / on (peer) g`, "label peer"},
		"an odd function":       {`holt_winters(g[5m], 0.5, 0.5)`, "holt_winters"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader(c)
			r.read(tc.expr)
			all := strings.Join(r.flaws, "\n")
			if tc.want == "" && all != "" || !strings.Contains(all, tc.want) {
				t.Errorf("found %q, want %q", all, tc.want)
			}
		})
	}
}
