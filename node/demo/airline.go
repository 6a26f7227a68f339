package demo

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// All accounts and revenues fit one read at one point in time, of 1,000 keys.
	flights   = 200
	customers = 800
	// The first flights are popular: a tenth of the customers wants them, and they sell out.
	popular      = 4
	popularSeats = 60
	// Every twentieth customer cannot pay for any flight, another twentieth for a few.
	broke, poor, rich = 50, 1_000, 10_000_000
	priceMin          = 80
	priceMax          = 300
	// setupOps is how many keys a transaction loads.
	setupOps = 200
)

// Keys, by participant: flight and booking in seats; account, revenue and
// booking in payments; trips, how many, and booking in profiles.
const (
	flightKey  = "flight/"
	accountKey = "acct/"
	revenueKey = "revenue/"
	bookingKey = "booking/"
	tripsKey   = "trips/"
)

// airline is what was there before the first booking.
type airline struct {
	flights   []string
	customers []string
	seats     map[string]int64 // by flight
	prices    map[string]int64 // by flight
	money     map[string]int64 // by customer
}

// newAirline has seats enough for a load of that duration.
func newAirline(d time.Duration) *airline {
	a := &airline{seats: map[string]int64{}, prices: map[string]int64{}, money: map[string]int64{}}
	normal := max(300, 20*int64(d.Seconds()))
	for i := range flights {
		name := fmt.Sprintf("LH%03d", i+1)
		a.flights = append(a.flights, name)
		a.seats[name] = normal
		a.prices[name] = priceMin + int64(i)*37%(priceMax-priceMin+1)
		if i < popular {
			a.seats[name] = popularSeats
		}
	}
	for i := range customers {
		name := fmt.Sprintf("c%03d", i)
		a.customers = append(a.customers, name)
		switch i % 20 {
		case 0:
			a.money[name] = broke
		case 1:
			a.money[name] = poor
		default:
			a.money[name] = rich
		}
	}
	return a
}

func sum(m map[string]int64) (total int64) {
	for _, v := range m {
		total += v
	}
	return total
}

// setup are the transactions that load seats and accounts.
func (a *airline) setup(k keepers) []*pb.SubmitRequest {
	var all []*pb.SubmitRequest
	load := func(participant, kind string, names []string, values map[string]int64) {
		for len(names) > 0 {
			n := min(len(names), setupOps)
			all = append(all, &pb.SubmitRequest{
				Id: fmt.Sprintf("setup-%d", len(all)+1), Wait: pb.Wait_COMPLETED,
				Branches: []*pb.Branch{{Participant: participant, Payload: k[participant].load(kind, names[:n], values)}},
			})
			names = names[n:]
		}
	}
	load(seats, flightKey, a.flights, a.seats)
	load(payments, accountKey, a.customers, a.money)
	return all
}

// booking is one seat for one customer.
type booking struct {
	ID string
	record
}

// record is what the participants write down of a booking.
type record struct {
	Customer string
	Flight   string
	Price    int64
}

func (r record) String() string { return fmt.Sprintf("%s %s %d", r.Customer, r.Flight, r.Price) }

// parseRecord reads what String wrote.
func parseRecord(text string) (record, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return record{}, fmt.Errorf("%q is not a customer, a flight and a price", text)
	}
	price, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("%q: the price is not a number", text)
	}
	return record{fields[0], fields[1], price}, nil
}

// draw makes the n-th booking.
func (a *airline) draw(n int64) booking {
	flight := popular + rand.IntN(flights-popular)
	if rand.IntN(10) == 0 {
		flight = rand.IntN(popular)
	}
	name := a.flights[flight]
	return booking{fmt.Sprintf("booking-%06d", n), record{
		Customer: a.customers[rand.IntN(customers)], Flight: name, Price: a.prices[name],
	}}
}

// request is the booking as one transaction.
func (b booking) request(k keepers) *pb.SubmitRequest {
	req := &pb.SubmitRequest{Id: b.ID}
	for _, name := range participants {
		req.Branches = append(req.Branches, &pb.Branch{Participant: name, Payload: k[name].book(b)})
	}
	return req
}

// forgery removes the booking's marker from seats and leaves the rest.
func (b booking) forgery(k keepers) *pb.SubmitRequest {
	return &pb.SubmitRequest{Id: "forgery", Wait: pb.Wait_COMPLETED,
		Branches: []*pb.Branch{{Participant: seats, Payload: k[seats].forge(b)}}}
}
