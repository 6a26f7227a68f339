package booking

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// clients book at the same moment.
	clients = 6
	price   = 120
	// riches are what everybody has, but for the poor, who can pay for a few flights.
	riches, pittance = 1_000_000, 3 * price
	// LH1 has seats for everybody, LH2 for a few.
	manySeats, fewSeats = 4000, 5
)

// The refusals of the services, as the command shows them.
const (
	full  = "not booked: flight LH2 is full (APPLICATION)"
	broke = "not booked: poor has 0, and 120 are due (APPLICATION)"
)

// load are clients that book by the example's command and remember what it said.
type load struct {
	w     *world
	next  atomic.Int64
	count atomic.Int64 // of those that are booked

	mu       sync.Mutex // guards all below
	booked   map[string]bool
	refusals map[string]int // by the command's first line, without the id
	again    int            // how often the command had to be repeated for an answer
}

func newLoad(w *world) *load {
	l := &load{w: w, booked: map[string]bool{}, refusals: map[string]int{}}
	ctx := within(w.t, patience)
	for flight, seats := range map[string]int{"LH1": manySeats, "LH2": fewSeats} {
		if _, err := w.seats.Exec(ctx, "INSERT INTO seat SELECT $1, n::text FROM generate_series(1, $2::int) n", flight, seats); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, balance := range l.purses() {
		if _, err := w.payments.ExecContext(ctx, "INSERT INTO account VALUES (?, ?)", name, balance); err != nil {
			w.t.Fatal(err)
		}
	}
	return l
}

// purses are the passengers and their money.
func (l *load) purses() map[string]int {
	list := map[string]int{"poor": pittance}
	for n := range clients {
		list[fmt.Sprintf("rich-%d", n)] = riches
	}
	return list
}

// run books until ctx ends; what has begun is brought to its end.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				l.book(l.next.Add(1))
			}
		})
	}
	wg.Wait()
}

// book makes one booking, by the example's command. While the command says that
// nobody has told yet, it is run again, as it says.
func (l *load) book(n int64) {
	id, passenger, flight := fmt.Sprintf("b-%d", n), fmt.Sprintf("rich-%d", n%clients), "LH1"
	switch n % 5 {
	case 1:
		passenger = "poor"
	case 2:
		flight = "LH2"
	}
	for deadline, tries := time.Now().Add(patience), 0; ; tries++ {
		status, said := l.w.command("book", "-nodes", strings.Join(l.w.Addresses(), ","), "-id", id,
			"-flight", flight, "-passenger", passenger, "-price", fmt.Sprint(price), "-patience", "3s")
		first, _, _ := strings.Cut(strings.TrimPrefix(said, "booking "+id+": "), "\n")
		l.mu.Lock()
		switch {
		case status == 0 && first == "booked":
			l.booked[id] = true
			l.count.Add(1)
		case status == 3:
			l.refusals[first]++
		case status == 4 && time.Now().Before(deadline):
			l.again++
			l.mu.Unlock()
			continue
		default:
			l.w.t.Errorf("book %s: status %d after %d tries: %s", id, status, tries+1, said)
		}
		l.mu.Unlock()
		return
	}
}

// command runs one of the programs to its end.
func (w *world) command(name string, args ...string) (status int, said string) {
	out, err := exec.Command(filepath.Join(bin, name), args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	case err != nil:
		w.t.Errorf("%s: %v", name, err)
		return -1, string(out)
	}
	return 0, string(out)
}
