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

// readBooks reads everything that the participants hold. Nothing may be under way.
func readBooks(ctx context.Context, c *rpc.Client) (*books, error) {
	b := newBooks()
	for _, name := range participants {
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
	number, isNumber := value.Number()
	text, isText := value.Text()
	switch kind := participant + " " + prefix + "/"; {
	case kind == seats+" "+flightKey && isNumber:
		b.seats[name] = number
	case kind == payments+" "+accountKey && isNumber:
		b.accounts[name] = number
	case kind == payments+" "+revenueKey && isNumber:
		b.revenue[name] = number
	case kind == profiles+" "+tripsKey && isNumber:
		b.trips[name] = number
	case prefix+"/" == bookingKey && isText:
		return b.mark(participant, name, text)
	default:
		return fmt.Errorf("%s is not what a booking leaves there", value)
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
