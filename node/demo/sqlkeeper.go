package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// statement is one of a branch of the ready-made agents, as anybody writes it.
type statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args,omitempty"`
	// Rows is how many rows it must affect, or the booking's condition fails.
	Rows *int `json:"rows,omitempty"`
}

// sqlKeeper is a participant over a database.
type sqlKeeper struct {
	name string
	// numbered parameters are $1, $2 and so on, others are question marks.
	numbered bool
	// tables are what it has, by the kind of the values there: a name and a number.
	tables map[string]table
	// change is what a booking changes; the marker follows.
	change func(b booking) []statement
	// index is more of the schema.
	index []string
}

// table is one of names and numbers.
type table struct{ name, key, number string }

// The tables of seats and payments.
var (
	flightTable  = table{"flight", "name", "seats"}
	accountTable = table{"account", "name", "money"}
)

const (
	textType     = "VARCHAR(64)"
	bookingTable = "CREATE TABLE booking (id " + textType + " PRIMARY KEY, customer " + textType + " NOT NULL, flight " + textType + " NOT NULL, price BIGINT NOT NULL)"
)

// schema makes the tables of a participant.
func (k *sqlKeeper) schema() []string {
	list := []string{bookingTable}
	for _, t := range k.tables {
		list = append(list, fmt.Sprintf("CREATE TABLE %s (%s %s PRIMARY KEY, %s BIGINT NOT NULL CHECK (%s >= 0))", t.name, t.key, textType, t.number, t.number))
	}
	return append(list, k.index...)
}

// seatsInPostgres is the participant seats over PostgreSQL.
func seatsInPostgres() *sqlKeeper {
	return &sqlKeeper{
		name: seats, numbered: true, tables: map[string]table{flightKey: flightTable},
		change: func(b booking) []statement {
			return []statement{one("UPDATE flight SET seats = seats - 1 WHERE name = $1 AND seats > 0", b.Flight)}
		},
	}
}

// paymentsInMariaDB is the participant payments over MariaDB. What a flight took
// is the sum over its bookings: were it a row, bookings of one flight would wait
// for each other in both databases, in circles that neither of them sees.
func paymentsInMariaDB() *sqlKeeper {
	return &sqlKeeper{
		name: payments, tables: map[string]table{accountKey: accountTable},
		change: func(b booking) []statement {
			return []statement{one("UPDATE account SET money = money - ? WHERE name = ? AND money >= ?", b.Price, b.Customer, b.Price)}
		},
		index: []string{"CREATE INDEX booking_flight ON booking (flight)"},
	}
}

// one is a statement that must affect one row.
func one(sql string, args ...any) statement {
	n := 1
	return statement{sql, args, &n}
}

// marks are n parameters from the first on.
func (k *sqlKeeper) marks(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = "?"
		if k.numbered {
			list[i] = fmt.Sprintf("$%d", first+i)
		}
	}
	return strings.Join(list, ", ")
}

// payload is the statements as a branch; what they are made of always has a form.
func payload(list ...statement) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string][]statement{"statements": list}); err != nil {
		panic(err) // strings and numbers
	}
	return b.Bytes()
}

// rowsAtOnce is how many rows a statement inserts: of two arguments each, of
// which a statement has at most 256.
const rowsAtOnce = 100

func (k *sqlKeeper) load(kind string, names []string, values map[string]int64) []byte {
	t := k.tables[kind]
	var list []statement
	for len(names) > 0 {
		n := min(len(names), rowsAtOnce)
		var rows []string
		var args []any
		for i, name := range names[:n] {
			rows = append(rows, "("+k.marks(2*i+1, 2)+")")
			args = append(args, name, values[name])
		}
		names = names[n:]
		list = append(list, statement{fmt.Sprintf("INSERT INTO %s (%s, %s) VALUES %s", t.name, t.key, t.number, strings.Join(rows, ", ")), args, &n})
	}
	return payload(list...)
}

func (k *sqlKeeper) book(b booking) []byte {
	marker := one("INSERT INTO booking (id, customer, flight, price) VALUES ("+k.marks(1, 4)+")", b.ID, b.Customer, b.Flight, b.Price)
	return payload(append(k.change(b), marker)...)
}

func (k *sqlKeeper) forge(b booking) []byte {
	return payload(one("DELETE FROM booking WHERE id = "+k.marks(1, 1), b.ID))
}

// look reads no flights: see readFlights.
func (k *sqlKeeper) look(told []entry, _ []string) []byte {
	if len(told) == 0 {
		return nil
	}
	var ids []any
	for i := range told {
		ids = append(ids, told[i].ID)
	}
	return payload(statement{SQL: "SELECT id, customer, flight, price FROM booking WHERE id IN (" + k.marks(1, len(ids)) + ")", Args: ids})
}

func (k *sqlKeeper) enter(result []byte, b *books) error {
	var found struct {
		Results []struct {
			Rows [][]json.RawMessage `json:"rows"`
		} `json:"results"`
	}
	if err := json.Unmarshal(result, &found); err != nil {
		return fmt.Errorf("the result of %s: %w", k.name, err)
	}
	for _, r := range found.Results {
		for _, row := range r.Rows {
			if err := k.enterBooking(row, b); err != nil {
				return fmt.Errorf("the result of %s: %w", k.name, err)
			}
		}
	}
	return nil
}

func (k *sqlKeeper) enterBooking(row []json.RawMessage, b *books) error {
	var id string
	var r record
	if err := scan(row, &id, &r.Customer, &r.Flight, &r.Price); err != nil {
		return err
	}
	b.marked[k.name][id] = r
	return nil
}

// scan reads the values of a row.
func scan(row []json.RawMessage, into ...any) error {
	if len(row) != len(into) {
		return fmt.Errorf("%d columns, want %d", len(row), len(into))
	}
	for i := range row {
		if err := json.Unmarshal(row[i], into[i]); err != nil {
			return err
		}
	}
	return nil
}
