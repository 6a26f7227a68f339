package demo

import (
	"fmt"

	"github.com/concordat-tx/concordat/rpc/kvop"
)

// keeper is how a participant keeps its part of the bookings: the payloads of
// branches, and what their results mean.
type keeper interface {
	// load sets values of a kind, which is the prefix of their keys.
	load(kind string, names []string, values map[string]int64) []byte
	// book is the participant's part of a booking.
	book(b booking) []byte
	// forge removes the booking's marker.
	forge(b booking) []byte
	// look reads the markers of bookings, and in KV what is known of flights; nil
	// if there is nothing to read.
	look(told []entry, flights []string) []byte
	// enter takes down what a look has read.
	enter(result []byte, b *books) error
}

// keepers are those of every participant, by name.
type keepers map[string]keeper

// kvKeepers are those of three KV participants.
func kvKeepers() keepers {
	k := keepers{}
	for _, name := range participants {
		k[name] = kvKeeper(name)
	}
	return k
}

// kvKeeper is a KV participant of that name.
type kvKeeper string

func (k kvKeeper) load(kind string, names []string, values map[string]int64) []byte {
	var ops []kvop.Op
	for _, name := range names {
		ops = append(ops, kvop.Op{Kind: kvop.Put, Key: kind + name, Value: kvop.Number(values[name])})
	}
	return kvop.Encode(ops)
}

func (k kvKeeper) book(b booking) []byte {
	none := int64(0)
	var ops []kvop.Op
	switch k {
	case seats:
		ops = []kvop.Op{{Kind: kvop.Add, Key: flightKey + b.Flight, Delta: -1, Min: &none}}
	case payments:
		ops = []kvop.Op{{Kind: kvop.Add, Key: accountKey + b.Customer, Delta: -b.Price, Min: &none},
			{Kind: kvop.Add, Key: revenueKey + b.Flight, Delta: b.Price}}
	case profiles:
		ops = []kvop.Op{{Kind: kvop.Add, Key: tripsKey + b.Customer, Delta: 1}}
	}
	return kvop.Encode(append(ops, kvop.Op{Kind: kvop.Put, Key: bookingKey + b.ID, Value: kvop.Text(b.String())}))
}

func (k kvKeeper) forge(b booking) []byte {
	return kvop.Encode([]kvop.Op{{Kind: kvop.Delete, Key: bookingKey + b.ID}})
}

func (k kvKeeper) look(told []entry, flights []string) []byte {
	var ops []kvop.Op
	for i := range told {
		ops = append(ops, kvop.Op{Kind: kvop.Get, Key: bookingKey + told[i].ID})
	}
	prefix := map[kvKeeper]string{seats: flightKey, payments: revenueKey}[k]
	for _, f := range flights {
		if prefix != "" { // profiles knows nothing of flights
			ops = append(ops, kvop.Op{Kind: kvop.Get, Key: prefix + f})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return kvop.Encode(ops)
}

func (k kvKeeper) enter(result []byte, b *books) error {
	results, err := kvop.ParseResults(result)
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	for _, r := range results {
		if r.Exists {
			if err := b.enter(string(k), r.Key, r.Value.AppendJSON(nil)); err != nil {
				return err
			}
		}
	}
	return nil
}
