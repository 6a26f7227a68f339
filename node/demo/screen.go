package demo

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The colours in use; screens without colour show none.
const (
	bold  = "1"
	dim   = "2"
	red   = "1;31"
	green = "32"
)

// screen shows a demo, a line at a time. It is safe for concurrent use.
type screen struct {
	colour bool
	began  time.Time
	mu     sync.Mutex // guards w and peak
	w      io.Writer
	peak   int // the most commits in a second so far
}

func newScreen(w io.Writer, colour bool) *screen {
	return &screen{colour: colour, began: time.Now(), w: w}
}

func (s *screen) paint(code, text string) string {
	if !s.colour || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// line writes one line. A screen that cannot be written to is no reason to stop:
// whoever owns it says so, by ending the context.
func (s *screen) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format+"\n", args...)
}

func (s *screen) title(format string, args ...any) {
	s.line("%s", s.paint(bold, fmt.Sprintf(format, args...)))
}

// event shows what happened now.
func (s *screen) event(what, format string, args ...any) { s.happened(bold, what, format, args...) }

// alarm shows what is done to the cluster.
func (s *screen) alarm(what, format string, args ...any) { s.happened(red, what, format, args...) }

func (s *screen) happened(code, what, format string, args ...any) {
	at := fmt.Sprintf("%6.2f s", time.Since(s.began).Seconds())
	s.line("%s  %s %s", s.paint(dim, at), s.paint(code, fmt.Sprintf("%-8s", what)), fmt.Sprintf(format, args...))
}

// barWidth is the bar of the highest rate so far.
const barWidth = 20

func (s *screen) pace(p pace) {
	s.mu.Lock()
	s.peak = max(s.peak, p.commits)
	bar := 0
	if s.peak > 0 {
		bar = p.commits * barWidth / s.peak
	}
	s.mu.Unlock()
	s.happened("", "load", "%6s bookings/s  p50 %5s  p99 %6s  %s", grouped(p.commits), short(p.p50), short(p.p99),
		s.paint(green, strings.Repeat("█", bar)))
}

// short is a duration in a few characters.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(1, d.Round(time.Millisecond).Milliseconds()))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// grouped is a number with a comma every three digits.
func grouped[N int | int64 | uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// counted is a number of things.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}
