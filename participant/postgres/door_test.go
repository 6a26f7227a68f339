package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A server that refuses is asked by one at a time, and not at once again; when it
// takes one it takes all (test/demo: a server that had not recovered after half a
// minute, on a machine with much else to do, refused 16 connections in its last
// quarter of a second).
func TestDoor(t *testing.T) {
	var d door
	refused := &pgconn.ConnectError{}
	now := time.Now()
	try := func(after time.Duration) func(time.Time, error) {
		report, err := d.enter(now.Add(after))
		if (report == nil) == (err == nil) {
			t.Fatalf("%v and %v", report != nil, err)
		}
		return report
	}
	for range 3 { // nothing is known yet
		if try(0) == nil {
			t.Fatal("nobody may try")
		}
	}
	try(0)(now, refused)
	if try(doorPause/2) != nil {
		t.Error("it is tried again at once")
	}
	one := try(doorPause)
	if one == nil {
		t.Fatal("it is never tried again")
	}
	if try(time.Hour) != nil {
		t.Error("two try at the same time")
	}
	one(now.Add(time.Second), refused)
	if try(time.Second+doorPause/2) != nil {
		t.Error("after the second refusal it is tried again at once")
	}
	other := try(time.Second + doorPause)
	other(now.Add(2*time.Second), errors.New("the caller has gone")) // says nothing of the server
	third := try(2 * time.Second)
	if third == nil {
		t.Fatal("one that said nothing keeps the others out")
	}
	third(now.Add(3*time.Second), nil)
	for range 3 {
		if try(3*time.Second) == nil {
			t.Error("the server answers, and somebody is kept out")
		}
	}
}
