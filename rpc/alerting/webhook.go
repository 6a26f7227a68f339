package alerting

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

const (
	// postTimeout bounds one POST: a receiver that hangs holds up what others are told.
	postTimeout = 5 * time.Second
	// maxPost is how many alerts one POST carries.
	maxPost = 100
	// expiry is how many repeat intervals a firing alert lasts without being
	// repeated, so that one whose sender is gone does not fire for ever.
	expiry = 4
)

// Webhook posts to one receiver, one POST at a time. It is safe for concurrent use.
type Webhook struct {
	url    *url.URL
	client *http.Client
	// turn has room for the one POST that may be under way.
	turn chan struct{}
}

// NewWebhook makes the client of a receiver in the form of Alertmanager's
// POST /api/v2/alerts. raw is the whole URL, http or https; user and password
// in it are sent as basic authorisation and are not logged. It connects to
// nobody yet. The error is a *fsm.FieldError about field.
func NewWebhook(field, raw string) (*Webhook, error) {
	const limit = "a URL like http://alertmanager:9093/api/v2/alerts"
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		// The parser's words may repeat a password.
		return nil, &fsm.FieldError{Field: field, Limit: limit, Got: "what cannot be read as one"}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, &fsm.FieldError{Field: field, Limit: limit, Got: fmt.Sprintf("scheme %q", u.Scheme)}
	case u.Hostname() == "":
		return nil, &fsm.FieldError{Field: field, Limit: limit, Got: "none with a host"}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: postTimeout, ForceAttemptHTTP2: true,
	}
	return &Webhook{
		url: u, turn: make(chan struct{}, 1),
		client: &http.Client{
			Transport: transport, Timeout: postTimeout,
			// A redirected POST may arrive as a GET: the URL is to be put right instead.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// String is the receiver without path, query and credentials: any of them may be a secret.
func (w *Webhook) String() string { return w.url.Scheme + "://" + w.url.Host }

// Close closes connections that nobody uses.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// refusedError is an answer that no repetition mends: the configuration is wrong.
type refusedError struct {
	status string
	text   string
}

func (e *refusedError) Error() string { return "the receiver answered " + e.status + " " + e.text }

// posted is one element of the array that Alertmanager takes.
type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// encode is the body of a POST at now.
func encode(items []Item, now time.Time, repeat time.Duration, generator string) ([]byte, error) {
	list := make([]posted, 0, len(items))
	for _, i := range items {
		p := posted{
			Labels: i.labels(), Annotations: i.annotations(), StartsAt: i.StartsAt.UTC(),
			EndsAt: now.Add(expiry * repeat).UTC(), GeneratorURL: generator,
		}
		if i.State == Over {
			p.EndsAt = i.EndsAt.UTC()
			// The clocks of two leaders differ; an end must not lie before its start.
			if earliest := p.StartsAt.Add(time.Millisecond); p.EndsAt.Before(earliest) {
				p.EndsAt = earliest
			}
		}
		list = append(list, p)
	}
	return json.Marshal(list)
}

// post sends one body and waits for its turn to. nil is a 2xx.
func (w *Webhook) post(ctx context.Context, body []byte) error {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the request cannot be made")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "concordat")
	resp, err := w.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the whole URL
			err = ue.Err
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what it says matters only if it refuses
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 3, code/100 == 4 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		return &refusedError{resp.Status, string(text)}
	}
	return fmt.Errorf("the receiver answered %s", resp.Status)
}
