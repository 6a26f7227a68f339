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
	// events are kept here, and not written, while a live view shows them.
	live   bool
	events []Event
}

// Event is something that happened.
type Event struct {
	// At is counted from the start of the demo.
	At time.Duration
	// What is a word, Alarm says that it was done to the cluster, or is wrong.
	What, Text string
	Alarm      bool
}

// maxEvents bounds the events that wait for the view.
const maxEvents = 200

// collect keeps events for take, or writes them again.
func (s *screen) collect(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = on
}

// take is what happened since the last call.
func (s *screen) take() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.events
	s.events = nil
	return list
}

// keep takes an event for the view, if there is one.
func (s *screen) keep(e Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && len(s.events) < maxEvents {
		s.events = append(s.events, e)
	}
	return s.live
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
	e := Event{At: time.Since(s.began), What: what, Text: fmt.Sprintf(format, args...), Alarm: code == red}
	if s.keep(e) {
		return
	}
	at := fmt.Sprintf("%6.2f s", e.At.Seconds())
	s.line("%s  %s %s", s.paint(dim, at), s.paint(code, fmt.Sprintf("%-8s", what)), e.Text)
}

// barWidth is the bar of the highest rate so far.
const barWidth = 10

// pace shows a second of load, and what the checks of it came to.
func (s *screen) pace(p pace, proofs standing) {
	s.mu.Lock()
	s.peak = max(s.peak, p.commits)
	bar := 0
	if s.peak > 0 {
		bar = p.commits * barWidth / s.peak
	}
	s.mu.Unlock()
	filled := strings.Repeat("█", bar)
	s.happened("", "load", "%6s bookings/s  p50 %6s  p99 %6s  %s%s %s", grouped(p.commits), short(p.p50), short(p.p99),
		s.paint(green, filled), strings.Repeat(" ", barWidth-bar), s.proven(proofs))
}

// proven is what the checks under load come to, in a few words.
func (s *screen) proven(p standing) string {
	switch {
	case len(p.Wrong) > 0:
		return s.paint(red, fmt.Sprintf("WRONG: %d", len(p.Wrong)))
	case p.Failing != "":
		return "not checked: " + clip(p.Failing, 14) // of 100 columns
	case p.Made == 0:
		return "not checked yet"
	}
	return fmt.Sprintf("whole: %d, money same", p.Good.Whole+p.Good.Absent)
}

// clip is text of at most width characters.
func clip(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:max(0, width-1)]) + "…"
	}
	return text
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
