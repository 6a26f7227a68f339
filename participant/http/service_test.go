package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	nethttp "net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// want is the payload of a try: seats of a flight that has so many.
type want struct {
	Flight string `json:"flight"`
	Seats  int    `json:"seats"`
}

const capacity = 1000

// line is what the ledger has of one key: where the reservation stands, and
// every call and change in order.
type line struct {
	Want   want
	State  string // reserved, confirmed, cancelled
	Events []string
}

// service is a real one behind a real listener: its ledger is in a file, written
// before it answers. Tests may stand between a call and its work, and between
// the work and its answer.
type service struct {
	t      testing.TB
	db     *bbolt.DB
	server *httptest.Server

	mu sync.Mutex // guards all below
	// before and after may answer instead (true), or wait.
	before, after func(call, key string, w nethttp.ResponseWriter) bool
}

var (
	ledgerBucket = []byte("ledger")
	testSecret   = mustSecret("a secret of the tests, long enough")
)

func mustSecret(text string) Secret {
	s, err := NewSecret([]byte(text))
	if err != nil {
		panic(err)
	}
	return s
}

func newService(t testing.TB) *service {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "ledger.db"), 0o600, &bbolt.Options{NoSync: true}) // processes end here, not the machine
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(ledgerBucket); return err })
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, db: db}
	s.server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
		_ = db.Close()
	})
	return s
}

// stand puts the test between; nil is nothing.
func (s *service) stand(before, after func(call, key string, w nethttp.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *service) between() (before, after func(call, key string, w nethttp.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before, s.after
}

func (s *service) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if err := testSecret.Verify(r, body, time.Now()); err != nil {
		nethttp.Error(w, err.Error(), nethttp.StatusUnauthorized)
		return
	}
	call, key := strings.TrimPrefix(r.URL.Path, "/"), r.Header.Get(HeaderBranch)
	before, after := s.between()
	if before != nil && before(call, key, w) {
		return
	}
	status, text := s.do(call, key, body)
	if after != nil && after(call, key, w) {
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// do is what docs ask of a service, one transaction of its store a call.
func (s *service) do(call, key string, body []byte) (status int, text string) {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(ledgerBucket)
		l := readLine(b.Get([]byte(key)))
		status, text = nethttp.StatusOK, ""
		switch state := l.State; {
		case call == callTry && state == "":
			if err := json.Unmarshal(body, &l.Want); err != nil {
				return err
			}
			if l.Want.Seats+booked(b, l.Want.Flight) > capacity {
				status, text = nethttp.StatusConflict, fmt.Sprintf("flight %s has no %d seats left", l.Want.Flight, l.Want.Seats)
				return nil
			}
			l.State = "reserved"
		case call == callTry && state == "cancelled":
			status, text = nethttp.StatusConflict, "cancelled before"
		case call == callConfirm && state == "reserved":
			l.State = "confirmed"
		case call == callCancel && (state == "" || state == "reserved"):
			l.State = "cancelled"
		case call == callConfirm && state != "confirmed", call == callCancel && state == "confirmed":
			status, text = nethttp.StatusConflict, "it is "+cmpOr(state, "unknown")+" here"
		}
		if call == callTry && status == nethttp.StatusOK {
			text = fmt.Sprintf(`{"seats":%d}`, l.Want.Seats)
		}
		l.Events = append(l.Events, fmt.Sprintf("%s %d", call, status))
		out, err := json.Marshal(l)
		return errors.Join(err, b.Put([]byte(key), out))
	})
	if err != nil {
		return nethttp.StatusInternalServerError, err.Error()
	}
	return status, text
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func readLine(b []byte) (l line) {
	if b != nil {
		_ = json.Unmarshal(b, &l) // the bytes are ours
	}
	return l
}

// booked counts seats that are reserved or confirmed.
func booked(b *bbolt.Bucket, flight string) (n int) {
	_ = b.ForEach(func(_, v []byte) error { // the function does not fail
		if l := readLine(v); l.Want.Flight == flight && l.State != "cancelled" {
			n += l.Want.Seats
		}
		return nil
	})
	return n
}

// ledger is every line by its key.
func (s *service) ledger() map[string]line {
	lines := map[string]line{}
	_ = s.db.View(func(tx *bbolt.Tx) error { // the function does not fail
		return tx.Bucket(ledgerBucket).ForEach(func(k, v []byte) error { lines[string(k)] = readLine(v); return nil })
	})
	return lines
}

// confirmed counts the confirmed seats of a flight.
func (s *service) confirmed(flight string) (n int64) {
	for _, l := range s.ledger() {
		if l.Want.Flight == flight && l.State == "confirmed" {
			n += int64(l.Want.Seats)
		}
	}
	return n
}

// settled demands that every reservation was confirmed or cancelled, and the
// barrier of what the service saw: nothing after a confirm or cancel but the
// same again, and no cancel first, unless lost says that calls went astray.
func (s *service) settled(lost bool) {
	s.t.Helper()
	lines := s.ledger()
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		l := lines[key]
		if l.State == "reserved" {
			s.t.Errorf("%s is still reserved: %q", key, l.Events)
		}
		for i, e := range l.Events {
			first := i == 0
			again := !first && l.Events[i-1] == e
			switch call, _, _ := strings.Cut(e, " "); {
			case first && call != callTry && !lost:
				s.t.Errorf("%s began with %q: %q", key, e, l.Events)
			case again && !lost:
				s.t.Errorf("%s saw %q twice: %q", key, e, l.Events)
			case call == callTry && !first && !again:
				s.t.Errorf("%s saw a late try: %q", key, l.Events)
			}
		}
	}
}
