package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth, plotHeight = 22 * vg.Centimeter, 12 * vg.Centimeter
	// legendWidth is of the names, to the right of what is drawn.
	legendWidth = 5.5 * vg.Centimeter
	margin      = 4 * vg.Millimeter
)

// palette is that of Okabe and Ito, which people who see few colours can tell apart.
var palette = []color.Color{
	color.RGBA{R: 0, G: 0, B: 0, A: 255}, color.RGBA{R: 230, G: 159, B: 0, A: 255}, color.RGBA{R: 86, G: 180, B: 233, A: 255},
	color.RGBA{R: 0, G: 158, B: 115, A: 255}, color.RGBA{R: 0, G: 114, B: 178, A: 255}, color.RGBA{R: 213, G: 94, B: 0, A: 255},
	color.RGBA{R: 204, G: 121, B: 167, A: 255},
}

// plotted is one plot, in a file of its own.
type plotted struct{ file, title string }

// drawing is a plot with its legend beside it.
type drawing struct {
	*plot.Plot
	legend plot.Legend
	lines  int
}

func newDrawing(title string) *drawing {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	d := &drawing{Plot: plot.New(), legend: plot.NewLegend()}
	d.Title.Text = title
	d.legend.Top, d.legend.Left = true, true
	d.legend.ThumbnailWidth, d.legend.Padding = 8*vg.Millimeter, 2*vg.Millimeter
	return d
}

// save writes the drawing as SVG.
func (d *drawing) save(path string) (err error) {
	canvas := vgsvg.New(plotWidth, plotHeight)
	whole := draw.New(canvas)
	d.Draw(draw.Crop(whole, margin, -legendWidth, margin, -margin))
	d.legend.Draw(draw.Crop(whole, plotWidth-legendWidth+margin, 0, 0, -4*margin))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = canvas.WriteTo(f)
	return err
}

// colours are given out in this order, so that a system has the same in every plot.
var colours = []string{
	"echo", "raft", "floor", "concordat", "concordat-follower", "concordat-kv", "etcd", "postgres-by-hand", "concordat-postgres",
	"concordat-kv-own", "concordat-kv-hot", "concordat-wal",
}

// line adds one system's.
func (d *drawing) line(name string, points plotter.XYer) error {
	i := max(0, slices.Index(colours, name))
	l, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	l.Color, marks.Color, marks.Shape = palette[i%len(palette)], palette[i%len(palette)], plotutil.Shape(i)
	l.Width, marks.Radius = vg.Points(1.4), vg.Points(2.5)
	if i >= len(palette) { // colours come again: dashes tell them apart
		l.Dashes = plotutil.Dashes(1)
	}
	d.Add(l, marks)
	d.legend.Add(name, l, marks)
	d.lines++
	return nil
}

func logarithmic(a *plot.Axis) {
	a.Scale = plot.LogScale{}
	a.Tick.Marker = plot.LogTicks{Prec: -1}
}

// plot writes the plots to a folder, as far as there is something to show.
func (s *summary) plot(dir string) (made []plotted, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	callers := func(n int) func(row) bool { return func(r row) bool { return r.callers == n } }
	for _, p := range []struct {
		file, title string
		draw        func(*drawing) error
	}{
		{"throughput.svg", "Throughput over callers", s.throughput},
		{"latency-1.svg", "Latency of one caller", s.latency(callers(1))},
		{"latency-64.svg", "Latency at 64 callers", s.latency(callers(64))},
		{"latency-open.svg", "Latency at 80 % of each one's peak, from when it was due", s.latency(func(r row) bool { return r.share == 0.8 })},
		{"failover.svg", "A leader is killed at 0 s", s.timelines},
	} {
		d := newDrawing(p.title)
		if err := p.draw(d); err != nil {
			return made, fmt.Errorf("%s: %w", p.file, err)
		}
		if d.lines == 0 {
			continue
		}
		if err := d.save(filepath.Join(dir, p.file)); err != nil {
			return made, err
		}
		made = append(made, plotted{p.file, p.title})
	}
	return made, nil
}

// throughput is a line for each system, with the least and the greatest over rounds.
func (s *summary) throughput(d *drawing) error {
	d.X.Label.Text, d.Y.Label.Text = "callers", "a second"
	logarithmic(&d.X)
	logarithmic(&d.Y)
	var ticks plot.ConstantTicks
	for _, callers := range s.Settings.Callers {
		ticks = append(ticks, plot.Tick{Value: float64(callers), Label: fmt.Sprint(callers)})
	}
	d.X.Tick.Marker = ticks
	for _, name := range s.systems() {
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
			return err
		}
		bars.Color = palette[max(0, slices.Index(colours, name))%len(palette)]
		d.Add(bars)
		if err := d.line(name, points); err != nil {
			return err
		}
	}
	return nil
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
func (s *summary) latency(of func(row) bool) func(*drawing) error {
	return func(d *drawing) error {
		d.X.Label.Text, d.Y.Label.Text = "quantile, %", "ms"
		logarithmic(&d.Y)
		var ticks plot.ConstantTicks
		for _, q := range []float64{0, 50, 90, 99, 99.9, 99.99} {
			ticks = append(ticks, plot.Tick{Value: nines(q), Label: fmt.Sprintf("%g", q)})
		}
		d.X.Tick.Marker = ticks
		for _, name := range s.systems() {
			var points plotter.XYs
			for _, r := range s.rows {
				if r.system == name && of(r) {
					points = append(points, r.curve()...)
				}
			}
			if len(points) == 0 {
				continue
			}
			if err := d.line(name, points); err != nil {
				return err
			}
		}
		return nil
	}
}

// curve is the distribution as it is drawn; the greatest of all has no place on it.
func (r row) curve() (points plotter.XYs) {
	for i, q := range quantiles {
		if q < 100 && r.distribution[i] > 0 {
			points = append(points, plotter.XY{X: nines(q), Y: r.distribution[i]})
		}
	}
	return points
}

// nines is where a quantile, in percent, is drawn: 90 at 1, 99 at 2.
func nines(q float64) float64 { return -math.Log10(1 - q/100) }
