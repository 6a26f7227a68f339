package booking

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// settles is how long a branch may stay prepared after everything is back.
const settles = 10 * time.Second

// audit waits until nothing is prepared, then holds what the three stores have
// against what the clients were told.
func (l *load) audit() {
	t := l.w.t
	t.Helper()
	eventually(t, settles, "nothing is prepared in any store", func() bool {
		n, err := l.w.prepared(within(t, 5*time.Second))
		return err == nil && n == 0
	})
	want := slices.Sorted(maps.Keys(l.booked))
	for store, found := range map[string][]string{"seats": l.inSeats(), "payments": l.inPayments(), "profiles": l.inProfiles()} {
		slices.Sort(found)
		if !slices.Equal(found, want) {
			t.Errorf("%s has %d bookings, the clients were told of %d: only there %q, missing there %q",
				store, len(found), len(want), except(found, want), except(want, found))
		}
	}
	l.money()
}

// except are those of a list that are not in another one, or come twice.
func except(list, other []string) (rest []string) {
	for i, s := range list {
		if _, there := slices.BinarySearch(other, s); !there || i > 0 && list[i-1] == s {
			rest = append(rest, s)
		}
	}
	return rest
}

func (l *load) inSeats() []string {
	l.w.t.Helper()
	rows, err := l.w.seats.Query(within(l.w.t, patience), "SELECT booking FROM seat WHERE passenger IS NOT NULL")
	if err != nil {
		l.w.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		l.w.t.Fatal(err)
	}
	return list
}

func (l *load) inPayments() (list []string) {
	l.w.t.Helper()
	rows, err := l.w.payments.QueryContext(within(l.w.t, patience), "SELECT booking FROM payment")
	if err != nil {
		l.w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			l.w.t.Fatal(err)
		}
		list = append(list, id)
	}
	if err := rows.Err(); err != nil {
		l.w.t.Fatal(err)
	}
	return list
}

// inProfiles reads what the service shows to anybody who asks by its name.
func (l *load) inProfiles() (list []string) {
	t := l.w.t
	t.Helper()
	for passenger := range l.purses() {
		items, err := l.w.client.ReadKV(within(t, patience), "profiles", passenger+"/bookings", passenger+"/trips")
		if err != nil {
			t.Fatal(err)
		}
		bookings, trips := decode[[]string](l, items[0]), decode[int](l, items[1])
		if len(bookings) != trips {
			t.Errorf("the profile of %s counts %d trips and lists %d", passenger, trips, len(bookings))
		}
		list = append(list, bookings...)
	}
	return list
}

// decode is a value of the key-value store; nothing is the zero value.
func decode[T any](l *load, item *pb.KeyValue) (v T) {
	l.w.t.Helper()
	if item.GetExists() {
		if err := json.Unmarshal(item.GetValueJson(), &v); err != nil {
			l.w.t.Fatalf("%s: %v", item.GetKey(), err)
		}
	}
	return v
}

// money is neither made nor lost: what the passengers have less the airline has more.
func (l *load) money() {
	t := l.w.t
	t.Helper()
	before := 0
	for _, balance := range l.purses() {
		before += balance
	}
	var all, airline int
	err := l.w.payments.QueryRowContext(within(t, patience),
		"SELECT SUM(balance), SUM(IF(name = 'airline', balance, 0)) FROM account").Scan(&all, &airline)
	if err != nil {
		t.Fatal(err)
	}
	if all != before || airline != price*len(l.booked) {
		t.Errorf("there were %d and are %d; the airline has %d for %d bookings of %d", before, all, airline, len(l.booked), price)
	}
}
