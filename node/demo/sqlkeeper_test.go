package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// parsed are the statements of a payload.
func parsed(t *testing.T, payload []byte) []statement {
	t.Helper()
	var p struct {
		Statements []statement `json:"statements"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		t.Fatal(err)
	}
	return p.Statements
}

// Every parameter of a statement has its argument, and none has more of them
// than an agent takes.
func TestStatementsHaveTheirArguments(t *testing.T) {
	world := newAirline(0)
	told := make([]entry, sampleBookings)
	for i := range told {
		told[i].ID = fmt.Sprintf("booking-%06d", i)
	}
	b := world.draw(7)
	for _, k := range []*sqlKeeper{seatsInPostgres(), paymentsInMariaDB()} {
		payloads := map[string][]byte{
			"book": k.book(b), "forge": k.forge(b), "look": k.look(told, nil),
		}
		for kind := range k.tables {
			payloads["load "+kind] = k.load(kind, world.customers[:setupOps], world.money)
		}
		for name, payload := range payloads {
			list := parsed(t, payload)
			if len(list) == 0 {
				t.Errorf("%s %s: no statement", k.name, name)
			}
			for _, s := range list {
				marks := strings.Count(s.SQL, "?")
				if k.numbered {
					marks = strings.Count(s.SQL, "$")
				}
				if marks != len(s.Args) || marks == 0 || marks > 256 {
					t.Errorf("%s %s: %d parameters and %d arguments: %s", k.name, name, marks, len(s.Args), s.SQL)
				}
				if reads := strings.HasPrefix(s.SQL, "SELECT"); reads == (s.Rows != nil) {
					t.Errorf("%s %s: its rows are not what counts: %s", k.name, name, s.SQL)
				}
			}
		}
	}
}

// What agents answer is taken down, and what nobody asked for is refused.
func TestResultsAreEntered(t *testing.T) {
	b := newBooks()
	result := `{"results":[{"statement":0,"columns":["id","customer","flight","price"],"rows":[["booking-1","c001","LH100",90]]}]}`
	if err := seatsInPostgres().enter([]byte(result), b); err != nil || b.marked[seats]["booking-1"] != (record{"c001", "LH100", 90}) {
		t.Errorf("got %+v, %v", b, err)
	}
	for name, result := range map[string]string{
		"no JSON":         "{",
		"other columns":   `{"results":[{"columns":["name","money"],"rows":[["LH100",1]]}]}`,
		"another number":  `{"results":[{"columns":["name","seats"],"rows":[["LH100","many"]]}]}`,
		"too few columns": `{"results":[{"columns":["name"],"rows":[["LH100"]]}]}`,
	} {
		if err := seatsInPostgres().enter([]byte(result), newBooks()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A flight is compared if both databases have told of it, and only then.
func TestFlightsThatAreLockedArePassedOver(t *testing.T) {
	b := newBooks()
	b.seats["LH100"], b.seats["LH101"], b.revenue["LH100"], b.revenue["LH102"] = 299, 300, 90, 90
	q := &question{keepers: keepers{payments: paymentsInMariaDB()}}
	if q.skipped("LH100", b) || !q.skipped("LH101", b) || !q.skipped("LH102", b) {
		t.Error("passed over are not those that one of them lacks")
	}
	q.keepers = kvKeepers()
	if q.skipped("LH101", b) {
		t.Error("in KV a flight that has taken nothing has no key")
	}
}
