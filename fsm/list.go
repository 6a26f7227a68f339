package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Order is the order of a list of transactions.
type Order uint8

// The orders. The age of a transaction is the place of its Begin in the log.
const (
	ByID Order = iota
	OldestFirst
	NewestFirst
)

// ListQuery asks for one page of transactions.
type ListQuery struct {
	Order Order
	// After is the place behind which the page begins; empty: the beginning.
	// In order of id it is an id, in the others what Place made.
	After string
	// Limit is how many at most, 1 or more.
	Limit int
	// Match says which; it must not keep what it is given.
	Match func(*Txn) bool
}

// place is where a transaction stands in an order.
type place struct {
	index uint64
	id    string
}

func (o Order) compare(a, b place) int {
	c := cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.id, b.id))
	if o == NewestFirst {
		return -c
	}
	return c
}

func (o Order) placeOf(t *Txn) place { return o.place(t.ID, t.BeginIndex) }

func (o Order) place(id string, beginIndex uint64) place {
	if o == ByID {
		beginIndex = 0
	}
	return place{beginIndex, id}
}

// Place is a transaction's place in the order, for After.
func (o Order) Place(t *Txn) string {
	if o == ByID {
		return t.ID
	}
	return strconv.FormatUint(t.BeginIndex, 10) + "-" + t.ID
}

var errPlace = errors.New(`a place that a page before named as "next"`)

func (o Order) parse(text string) (place, error) {
	if o == ByID {
		return place{id: text}, nil
	}
	number, id, found := strings.Cut(text, "-")
	index, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || CheckID("id", id) != nil {
		return place{}, &FieldError{"after", errPlace.Error(), fmt.Sprintf("%q", text)}
	}
	return place{index, id}, nil
}

// List returns one page; more says whether there are others behind it. A
// FieldError says that After is no place. It is asked of a snapshot because to
// look at all of them takes long enough to be kept off the state's lock. Only
// about two pages are sorted, however many there are.
func (s *Snapshot) List(q ListQuery) (list []*Txn, more bool, err error) {
	var after place
	if q.After != "" {
		if after, err = q.Order.parse(q.After); err != nil {
			return nil, false, err
		}
	}
	keep := min(q.Limit, s.Len()) + 1 // one more than asked for tells that there are others
	compare := func(a, b *Txn) int { return q.Order.compare(q.Order.placeOf(a), q.Order.placeOf(b)) }
	full := false // list[keep-1] is the last one that can still be among the first
	possible := func(p place) bool {
		return (q.After == "" || q.Order.compare(p, after) > 0) && (!full || q.Order.compare(p, q.Order.placeOf(list[keep-1])) <= 0)
	}
	take := func(t *Txn) {
		if list = append(list, t); len(list) == 2*keep {
			slices.SortFunc(list, compare)
			list, full = list[:keep], true
		}
	}
	// The order does not matter: the first ones in the order asked for are kept.
	for t := range s.objects() {
		if possible(q.Order.placeOf(t)) && q.Match(t) {
			take(t)
		}
	}
	scratch := new(Txn)
	for p := range s.finished.all() {
		_, begun, _ := p.peek()
		if !possible(q.Order.place(string(p.id()), begun)) {
			continue
		}
		if p.read(scratch, s.participants); q.Match(scratch) {
			take(scratch)
			scratch = new(Txn)
		}
	}
	slices.SortFunc(list, compare)
	if len(list) > q.Limit {
		return list[:q.Limit], true, nil
	}
	return list, false, nil
}
