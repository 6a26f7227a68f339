package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// scanPage is how many keys are read at once.
const scanPage = 5000

// books are the participants' data.
type books struct {
	// seats left by flight; money of customers and airline by customer and flight; trips by customer.
	seats, accounts, revenue, trips map[string]int64
	// marked are the bookings that each participant has, by its name and their id.
	marked map[string]map[string]record
	// strange are entries that no booking makes.
	strange []string
}

func newBooks() *books {
	b := &books{seats: map[string]int64{}, accounts: map[string]int64{}, revenue: map[string]int64{}, trips: map[string]int64{},
		marked: map[string]map[string]record{}}
	for _, name := range participants {
		b.marked[name] = map[string]record{}
	}
	return b
}

// readBooks reads everything that the participants hold, those over databases
// by way of SQL. Nothing may be under way.
func readBooks(ctx context.Context, c *rpc.Client, stores []*store) (*books, error) {
	b := newBooks()
	over := map[string]bool{}
	for _, s := range stores {
		if err := s.read(ctx, b); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.of(), err)
		}
		over[s.of()] = true
	}
	for _, name := range participants {
		if over[name] {
			continue
		}
		after := ""
		for {
			page, err := c.ScanKV(ctx, name, &pb.ScanRequest{After: after, Limit: scanPage})
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			for _, item := range page.GetItems() {
				after = item.GetKey()
				if err := b.enter(name, after, item.GetValueJson()); err != nil {
					b.strange = append(b.strange, fmt.Sprintf("%s %s: %v", name, after, err))
				}
			}
			if !page.GetMore() {
				break
			}
		}
	}
	return b, nil
}

// enter takes down one key of one participant.
func (b *books) enter(participant, key string, raw []byte) error {
	value, err := kvop.ParseValue(raw, len(raw))
	if err != nil {
		return err
	}
	prefix, name, _ := strings.Cut(key, "/")
	if text, isText := value.Text(); isText && prefix+"/" == bookingKey {
		return b.mark(participant, name, text)
	}
	if number, isNumber := value.Number(); isNumber {
		return b.number(participant, prefix+"/", name, number)
	}
	return fmt.Errorf("%s is not what a booking leaves there", value)
}

// number takes down what stands under a name of a kind.
func (b *books) number(participant, kind, name string, n int64) error {
	switch participant + " " + kind {
	case seats + " " + flightKey:
		b.seats[name] = n
	case payments + " " + accountKey:
		b.accounts[name] = n
	case payments + " " + revenueKey:
		b.revenue[name] = n
	case profiles + " " + tripsKey:
		b.trips[name] = n
	default:
		return fmt.Errorf("%d is not what a booking leaves there", n)
	}
	return nil
}

// mark enters a booking.
func (b *books) mark(participant, id, text string) error {
	r, err := parseRecord(text)
	if err != nil {
		return err
	}
	b.marked[participant][id] = r
	return nil
}
