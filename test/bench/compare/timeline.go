package main

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot/plotter"
)

// killed are the systems whose leaders are.
var killed = []string{"concordat", "etcd"}

// failover is the time until a system answers again, over all kills.
func (s *summary) failover(system string) spread {
	var values []float64
	for _, f := range s.Kills {
		if f.System == system {
			values = append(values, f.First)
		}
	}
	return spreadOf(values)
}

func (s *summary) killTable() string {
	var b strings.Builder
	b.WriteString("| system | kills | ms until an answer |\n|---|---:|---:|\n")
	for _, system := range killed {
		if v := s.failover(system); v.Rounds > 0 {
			fmt.Fprintf(&b, "| %s | %d | %s |\n", system, v.Rounds, v)
		}
	}
	if v := s.settled(false); v.Rounds > 0 {
		fmt.Fprintf(&b, "\n| killed with | kills | ms until all was settled |\n|---|---:|---:|\n| %d callers waiting | %d | %s |\n", inFlight, v.Rounds, v)
		for _, f := range s.Settles {
			if f.InDoubt {
				fmt.Fprintf(&b, "| %d transactions in doubt | 1 | %.0f |\n", f.Unfinished, f.Settled)
			}
		}
	}
	return b.String()
}

// settled is the time from a kill until nothing was unfinished.
func (s *summary) settled(inDoubt bool) spread {
	var values []float64
	for _, f := range s.Settles {
		if f.InDoubt == inDoubt {
			values = append(values, f.Settled)
		}
	}
	return spreadOf(values)
}

// timelines are answers a second around the kill: the mean over all kills, since
// of one kill a bucket holds too few.
func (s *summary) timelines(d *drawing) error {
	d.X.Label.Text, d.Y.Label.Text = "seconds after the kill", "answers a second"
	d.Y.Min = 0
	for _, system := range killed {
		var sum []float64
		kills := 0
		for _, f := range s.Kills {
			if f.System != system {
				continue
			}
			kills++
			sum = append(sum, make([]float64, max(0, len(f.Timeline)-len(sum)))...)
			for k, n := range f.Timeline {
				sum[k] += float64(n)
			}
		}
		var points plotter.XYs
		for k, n := range sum {
			at := float64(k)*bucket.Seconds() - beforeKill.Seconds()
			points = append(points, plotter.XY{X: at, Y: n / float64(kills) / bucket.Seconds()})
		}
		if len(points) == 0 {
			continue
		}
		if err := d.line(system, points); err != nil {
			return err
		}
	}
	return nil
}
