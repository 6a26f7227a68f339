package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const plotWidth, plotHeight = 18 * vg.Centimeter, 11 * vg.Centimeter

// plotted is one plot, in a file of its own.
type plotted struct{ file, title string }

// plot writes the plots to a folder, as far as there is something to show.
func (s *summary) plot(dir string) (made []plotted, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	closedAt := func(callers int) func(row) bool { return func(r row) bool { return r.callers == callers } }
	for _, p := range []struct {
		file, title string
		draw        func(*plot.Plot) (bool, error)
	}{
		{"throughput.svg", "Throughput over callers", s.throughput},
		{"latency-1.svg", "Latency of one caller", s.latency(closedAt(1))},
		{"latency-64.svg", "Latency at 64 callers", s.latency(closedAt(64))},
		{"latency-open.svg", "Latency at 80 % of each one's peak, from when it was due", s.latency(func(r row) bool { return r.share == 0.8 })},
	} {
		drawn := plot.New()
		drawn.Title.Text = p.title
		drawn.Legend.Top, drawn.Legend.Left = true, true
		something, err := p.draw(drawn)
		if err != nil {
			return made, fmt.Errorf("%s: %w", p.file, err)
		}
		if !something {
			continue
		}
		if err := drawn.Save(plotWidth, plotHeight, filepath.Join(dir, p.file)); err != nil {
			return made, err
		}
		made = append(made, plotted{p.file, p.title})
	}
	return made, nil
}

// throughput is a line for each system, with the least and the greatest over rounds.
func (s *summary) throughput(p *plot.Plot) (something bool, err error) {
	p.X.Label.Text, p.Y.Label.Text = "callers", "a second"
	logarithmic(&p.X)
	logarithmic(&p.Y)
	var ticks plot.ConstantTicks
	for _, callers := range s.Settings.Callers {
		ticks = append(ticks, plot.Tick{Value: float64(callers), Label: fmt.Sprint(callers)})
	}
	p.X.Tick.Marker = ticks
	for i, name := range s.systems() {
		var points rates
		for _, r := range s.rows {
			if r.system == name && r.callers > 0 && r.perSecond.Min > 0 {
				points = append(points, r)
			}
		}
		if len(points) == 0 {
			continue
		}
		bars, err := plotter.NewYErrorBars(points)
		if err != nil {
			return false, err
		}
		bars.Color = plotutil.Color(i)
		p.Add(bars)
		if err := line(p, i, name, points); err != nil {
			return false, err
		}
		something = true
	}
	return something, nil
}

// rates are the points of one system.
type rates []row

func (r rates) Len() int { return len(r) }

func (r rates) XY(i int) (x, y float64) { return float64(r[i].callers), r[i].perSecond.Median }

func (r rates) YError(i int) (low, high float64) {
	v := r[i].perSecond
	return v.Median - v.Min, v.Max - v.Median
}

// latency is a line for each system, over the nines of the quantile.
func (s *summary) latency(of func(row) bool) func(*plot.Plot) (bool, error) {
	return func(p *plot.Plot) (something bool, err error) {
		p.X.Label.Text, p.Y.Label.Text = "quantile, %", "ms"
		logarithmic(&p.Y)
		var ticks plot.ConstantTicks
		for _, q := range []float64{0, 50, 90, 99, 99.9, 99.99} {
			ticks = append(ticks, plot.Tick{Value: nines(q), Label: number(q)})
		}
		p.X.Tick.Marker = ticks
		for i, name := range s.systems() {
			var points plotter.XYs
			for _, r := range s.rows {
				if r.system != name || !of(r) {
					continue
				}
				for k, q := range quantiles {
					if q < 100 && r.distribution[k] > 0 {
						points = append(points, plotter.XY{X: nines(q), Y: r.distribution[k]})
					}
				}
			}
			if len(points) == 0 {
				continue
			}
			if err := line(p, i, name, points); err != nil {
				return false, err
			}
			something = true
		}
		return something, nil
	}
}

// nines is where a quantile, in percent, is drawn: 90 at 1, 99 at 2.
func nines(q float64) float64 { return -math.Log10(1 - q/100) }

func logarithmic(a *plot.Axis) {
	a.Scale = plot.LogScale{}
	a.Tick.Marker = plot.LogTicks{Prec: -1}
}

func line(p *plot.Plot, i int, name string, points plotter.XYer) error {
	l, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	l.Color, marks.Color, marks.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
	l.Width, marks.Radius = vg.Points(1.2), vg.Points(2.5)
	if i >= len(plotutil.DefaultColors) { // colours come again: dashes tell them apart
		l.Dashes = plotutil.Dashes(1)
	}
	p.Add(l, marks)
	p.Legend.Add(name, l, marks)
	p.Legend.ThumbnailWidth = vg.Points(24)
	p.Legend.TextStyle.YAlign = draw.YCenter
	return nil
}
