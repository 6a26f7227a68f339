package alerting

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// largest is an alert of every text at its limit and beyond.
func largest(participant string) Alert {
	a := undelivered(participant)
	a.Summary, a.Action = strings.Repeat("s", 5000), strings.Repeat("ä", 5000)
	for i := range 3 * MaxTransactions {
		a.Transactions = append(a.Transactions, strings.Repeat("x", 45)+fmt.Sprintf("%03d", i))
	}
	a.Count = 2000
	return a
}

// The body, to the byte, as POST /api/v2/alerts of Alertmanager wants it.
func TestBody(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	firing := undelivered("seats", "booking-1", "booking-2")
	firing.StartsAt, firing.Count = start, 7
	over := Alert{
		Kind: "disk_reserve", Severity: pb.Alert_CRITICAL, Source: NodeSource("n2"), StartsAt: start,
		EndsAt: start.Add(time.Minute), Summary: "the disk has 1 % left", Action: "make room",
	}
	got, err := encode([]Item{{firing, Raised}, {over, Over}}, start.Add(2*time.Minute), time.Minute, "http://n1:7080/")
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"labels":{"alertname":"ConcordatUndelivered","cluster":"c1","kind":"undelivered","participant":"seats","severity":"warning"},` +
		`"annotations":{"action":"start it","count":"7",` +
		`"description":"participant seats has not applied decisions. Transactions, oldest first: booking-1, booking-2 and 5 more. ` +
		`Calls made in vain: 20. What to do: start it.","retries":"20","summary":"participant seats has not applied decisions",` +
		`"transactions":"booking-1, booking-2"},` +
		`"startsAt":"2026-03-01T12:00:00.123Z","endsAt":"2026-03-01T12:06:00.123Z","generatorURL":"http://n1:7080/"},` +
		`{"labels":{"alertname":"ConcordatDiskReserve","kind":"disk_reserve","node":"n2","severity":"critical"},` +
		`"annotations":{"action":"make room","count":"0",` +
		`"description":"the disk has 1 % left. What to do: make room.","retries":"0","summary":"the disk has 1 % left"},` +
		`"startsAt":"2026-03-01T12:00:00.123Z","endsAt":"2026-03-01T12:01:00.123Z","generatorURL":"http://n1:7080/"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The clock of the leader that saw the end may be behind that of the one that
// saw the beginning; Alertmanager refuses an end before its start.
func TestEndIsNotBeforeStart(t *testing.T) {
	a := undelivered("seats", "a")
	a.StartsAt = time.Unix(1000, 0)
	a.EndsAt = a.StartsAt.Add(-time.Hour)
	got, err := encode([]Item{{a, Over}}, a.StartsAt, time.Minute, "")
	if err != nil || !strings.Contains(string(got), `"startsAt":"1970-01-01T00:16:40Z","endsAt":"1970-01-01T00:16:40.001Z"}`) {
		t.Errorf("got %s, %v", got, err)
	}
}

// Labels name an alert, the same in each state of it and with any details:
// never with an id, whoever chose it.
func TestLabelsAreStable(t *testing.T) {
	label := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	a := undelivered("seats")
	before := fmt.Sprint(a.labels())
	for _, id := range []string{"seats", "warning", "ConcordatUndelivered", "a-1", strings.Repeat("z", 48)} {
		a.Transactions = append(a.Transactions, id)
		a.Count++
		a.Retries++
		a.Summary += id
		if got := fmt.Sprint(a.labels()); got != before {
			t.Errorf("with %q the labels are %s, were %s", id, got, before)
		}
	}
	for _, source := range []string{ClusterSource, NodeSource("n1"), ParticipantSource("seats")} {
		a.Source = source
		for name, value := range a.labels() {
			if !label.MatchString(name) || value == "" {
				t.Errorf("%s: label %q=%q", source, name, value)
			}
		}
	}
	for kind, want := range map[string]string{"in_doubt": "ConcordatInDoubt", "needs_operator": "ConcordatNeedsOperator", "_odd__": "ConcordatOdd"} {
		if got := (Alert{Kind: kind}).name(); got != want {
			t.Errorf("%s is %s, want %s", kind, got, want)
		}
	}
}

// Whatever an alert holds, what is sent and logged of it has a bound.
func TestTextsAreBounded(t *testing.T) {
	a := largest("seats")
	notes := a.annotations()
	if got := strings.Count(notes["transactions"], ","); got != MaxTransactions-1 {
		t.Errorf("%d ids", got+1)
	}
	if !strings.Contains(notes["description"], "and 1980 more.") {
		t.Errorf("description %s", notes["description"])
	}
	size := 0
	for name, text := range notes {
		size += len(text)
		if !utf8.ValidString(text) || len(text) > 5000 {
			t.Errorf("%s has %d bytes: %q", name, len(text), text)
		}
	}
	if size > 8<<10 {
		t.Errorf("the annotations have %d bytes", size)
	}
	if got := len(a.Text()); got > 2*MaxText+500 {
		t.Errorf("the log line has %d bytes", got)
	}
	p := Item{a, Raised}.Proto()
	if len(p.GetSummary()) > MaxText || len(p.GetAction()) > MaxText || len(p.GetTransactions()) != MaxTransactions || p.GetCount() != 2000 {
		t.Errorf("as it travels: %d and %d bytes, %d ids of %d", len(p.GetSummary()), len(p.GetAction()), len(p.GetTransactions()), p.GetCount())
	}
}

func TestBounded(t *testing.T) {
	long := strings.Repeat("a", MaxText-5)
	for text, want := range map[string]string{
		"":                                "",
		"plain":                           "plain",
		"b\xffad\xc3":                     "bad",
		long + "aaaaa":                    long + "aaaaa",
		long + "aaaaaa":                   long + "aa…",
		long + "a€€€":                     long + "a…",
		long + "\xf0\x9f\x98\x80\xf0\x9f": long + "…",
		long + "a\xff\xff\xff\xff\xff":    long + "a…",
	} {
		got := Bounded(text)
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
		if again := Bounded(got); again != got {
			t.Errorf("%q is %q the second time", got, again)
		}
	}
}

func FuzzBounded(f *testing.F) {
	for _, seed := range []string{"", "plain", "ä€😀", "\xff\xc3"} {
		f.Add(seed, 400)
	}
	f.Fuzz(func(t *testing.T, text string, times int) {
		if got := Bounded(strings.Repeat(text, min(max(times, 0), 2000))); len(got) > MaxText || !utf8.ValidString(got) {
			t.Errorf("%d bytes of %q", len(got), got)
		}
	})
}

func TestWebhookBadInput(t *testing.T) {
	for _, raw := range []string{
		"", "alertmanager:9093", "ftp://alertmanager/api", "http://", "http:///api/v2/alerts", "http://ann:secret-word@[::1", "://", "http://a b/",
	} {
		_, err := NewWebhook("--alert-webhook", raw)
		var field *fsm.FieldError
		if !errors.As(err, &field) || field.Field != "--alert-webhook" || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// What may be a secret is sent, and said nowhere.
func TestCredentials(t *testing.T) {
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	w, err := NewWebhook("url", strings.Replace(s.URL, "http://", "http://ann:secret-word@", 1)+"/hook?key=secret-word")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.post(t.Context(), []byte("[]")); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if user, password, ok := r.BasicAuth(); !ok || user != "ann" || password != "secret-word" || r.URL.RawQuery != "key=secret-word" {
		t.Errorf("sent %v %v", r.Header, r.URL)
	}
	if w.String() != s.URL {
		t.Errorf("shown as %s", w)
	}
	s.Close()
	if err := w.post(t.Context(), []byte("[]")); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hook") {
		t.Errorf("said: %v", err)
	}
}

// How answers are taken.
func TestAnswers(t *testing.T) {
	for status, want := range map[int]string{
		200: ResultTaken, 202: ResultTaken, 204: ResultTaken, 302: ResultRefused, 400: ResultRefused, 401: ResultRefused, 404: ResultRefused,
		408: ResultFailed, 429: ResultFailed, 500: ResultFailed, 503: ResultFailed,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			posts := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				posts++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
				for range 1000 { // more than anybody wants to read
					if _, err := w.Write(make([]byte, 10_000)); err != nil {
						return
					}
				}
			}))
			defer s.Close()
			w, err := NewWebhook("url", s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			err = w.post(t.Context(), []byte("[]"))
			got := ResultTaken
			var refused *refusedError
			if errors.As(err, &refused) {
				got = ResultRefused
			} else if err != nil {
				got = ResultFailed
			}
			if got != want || posts != 1 {
				t.Errorf("%s after %d posts, want %s: %v", got, posts, want, err)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// A turn that does not come ends with its context.
func TestTurnEndsWithItsContext(t *testing.T) {
	w, err := NewWebhook("url", receiverURL)
	if err != nil {
		t.Fatal(err)
	}
	w.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.post(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
