package http

import (
	"bytes"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func (a *agent) records() (n int) {
	a.t.Helper()
	err := a.file.View(func(p *durable.Pages) error {
		return p.EachRecord(func(string, durable.Record) error { n++; return nil })
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// TestOtherAnswersAreRetried: neither 200 nor 409 is an answer, and nobody is
// led elsewhere by a redirect.
func TestOtherAnswersAreRetried(t *testing.T) {
	elsewhere := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	for _, status := range []int{201, 202, 204, 301, 307, 308, 400, 401, 404, 425, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newService(t)
			a := newAgent(t, s, nil)
			w := work("t", 1)
			odd := func(_, _ string, w nethttp.ResponseWriter) bool {
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "odd\nwords")
				return true
			}
			s.stand(odd, nil)
			err := a.noVote(w)
			if !strings.Contains(err.Error(), fmt.Sprintf("try: the service answered %d", status)) || status != 204 && !strings.Contains(err.Error(), `"odd words"`) {
				t.Errorf("error %v", err)
			}
			s.stand(nil, nil)
			a.prepared(w)
			s.stand(odd, nil)
			_, err = a.Commit(soon(t), w.Ref)
			if !participant.IsTransient(err) || !strings.Contains(err.Error(), fmt.Sprint("confirm: the service answered ", status)) {
				t.Errorf("error %v", err)
			}
			s.stand(nil, nil)
			a.settles(w, true, done)
		})
	}
}

// TestResults: what try answers is the branch's result if it can be one, and
// otherwise the reservation is given back.
func TestResults(t *testing.T) {
	large := `"` + strings.Repeat("x", fsm.MaxResultBytes-2) + `"`
	for name, test := range map[string]struct {
		body string
		code pb.Reason_Code
	}{
		"none":            {"", 0},
		"an object":       {`{"a": 12345678901234567890}`, 0},
		"the largest":     {large, 0},
		"too large":       {large + " ", pb.Reason_INVALID},
		"far too large":   {strings.Repeat(large, 3), pb.Reason_INVALID},
		"not JSON":        {"<html>", pb.Reason_INVALID},
		"bytes of chance": {"\xff\x00", pb.Reason_INVALID},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			a := newAgent(t, s, nil)
			w := work("t", 1)
			s.stand(nil, func(call, _ string, w nethttp.ResponseWriter) bool {
				if call == callTry {
					_, _ = io.WriteString(w, test.body)
				}
				return call == callTry
			})
			if test.code == 0 {
				if v := a.prepared(w); string(v.Result) != test.body {
					t.Errorf("result %q", v.Result)
				}
				a.settles(w, true, done)
				return
			}
			a.votes(w, pb.Vote_VOTE_ABORTED, test.code)
			a.settles(w, false, done)
			s.saw(w, "try 200", "cancel 200")
		})
	}
}

// TestRefusalsWords are shown in one line of valid text, no longer than a reason may be.
func TestRefusalsWords(t *testing.T) {
	for said, want := range map[string]string{
		"":                        "the service answered 409 without a word",
		"  no\nseats\tleft \x00":  "no seats left",
		"a\xffb":                  "a\uFFFDb",
		strings.Repeat("é", 1000): strings.Repeat("é", fsm.MaxReasonBytes/2),
	} {
		if got := (reply{body: []byte(said)}).said(); got != want {
			t.Errorf("%q is shown as %q, want %q", said, got, want)
		}
	}
}

// TestPayloadIsPassedThrough byte by byte, signed, with the key of the branch.
func TestPayloadIsPassedThrough(t *testing.T) {
	var got []byte
	var kind, path, key string
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = testSecret.Verify(r, body, time.Now())
		}
		if err != nil || r.Method != nethttp.MethodPost {
			t.Errorf("%s, %v", r.Method, err)
		}
		got, kind, path, key = body, r.Header.Get("Content-Type"), r.URL.Path, r.Header.Get(HeaderBranch)
	}))
	defer s.Close()
	a := newAgent(t, &service{server: &httptest.Server{URL: s.URL + "/a%20b/v1/"}}, nil)
	for i, test := range []struct{ body, kind string }{
		{"{\"n\": 1.000000000000000000001,\n \"n\": 2}", "application/json"},
		{"\x00\xff not JSON", "application/octet-stream"},
		{"", ""},
	} {
		w := payload(fmt.Sprintf("t%d", i), uint64(i+1), test.body)
		a.prepared(w)
		if string(got) != test.body || kind != test.kind || path != "/a b/v1/try" {
			t.Errorf("%q (%s) at %s, want %q (%s)", got, kind, path, test.body, test.kind)
		}
		if want := fmt.Sprintf("c1/seats/t%d/1.1.%d/%x", i, i+1, w.Digest); key != want {
			t.Errorf("key %s, want %s", key, want)
		}
		a.settles(w, true, done)
		if len(got) != 0 || path != "/a b/v1/confirm" {
			t.Errorf("confirm has body %q at %s", got, path)
		}
	}
}

// TestNoProxyOfTheEnvironment: the address is the one that was configured.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	if newClient().Transport.(*nethttp.Transport).Proxy != nil {
		t.Error("a proxy may come between")
	}
}

func TestBadURLs(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "must be http",
		"127.0.0.1:80":            "not a URL",
		"ftp://host":              "must be http",
		"http://":                 "must be http",
		"http://ann:hidden@host":  "no user or password",
		"http://host?key=hidden":  "no query",
		"http://host/#x":          "no fragment",
		"http://ho st:hidden/%zz": "not a URL",
	} {
		_, err := checkURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestSecretsAreNotShown, neither by print nor by what is logged.
func TestSecretsAreNotShown(t *testing.T) {
	const hidden = "hidden-hidden-hidden"
	secret := mustSecret(hidden)
	var log bytes.Buffer
	s := newService(t)
	a := newAgent(t, s, func(o *Options) {
		o.Secret = secret
		o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})
	})
	err := a.noVote(work("t", 1)) // 401: the service has another secret
	if !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
	a.log.Error("everything", "options", a.options, "manager", secret)
	text := fmt.Sprintf("%v %+v %#v %s %q %x\n%v\n%s", secret, a.options, a.options, secret, secret, secret, err, log.String())
	for _, form := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprint([]byte(hidden))} {
		if strings.Contains(text, form) {
			t.Errorf("the secret is shown: %s", text)
		}
	}
}

func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for text, ok := range map[string]bool{
		strings.Repeat("x", 15): false, strings.Repeat("x", 16): true, strings.Repeat("x", 15) + "\n": false,
		strings.Repeat("x", 16) + "\r\n": true, strings.Repeat("x", 5000): false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecret(path); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "xxx") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ReadSecret(path + "-none"); err == nil {
		t.Error("a file that does not exist is read")
	}
}
