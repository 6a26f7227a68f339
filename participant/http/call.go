package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/url"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// The calls of a service; each is a path below its base URL.
const (
	callTry     = "try"
	callConfirm = "confirm"
	callCancel  = "cancel"
)

const (
	// callTimeout bounds a confirm or cancel; the next follows. A try has what
	// is left of the prepare budget.
	callTimeout = 10 * time.Second
	dialTimeout = 5 * time.Second
	// maxIdleConns is how many connections to the service are kept.
	maxIdleConns = 64
	// maxShown bounds what is shown of an answer that is none of the two.
	maxShown = 200
)

// answer is what came of a call.
type answer int

const (
	unknown answer = iota // no answer, or none of the two: whether it happened is not known
	ok                    // 200
	refused               // 409
	unsent                // nothing left this process
)

// reply is a call's answer with its body; err says why it is unknown or unsent.
type reply struct {
	answer answer
	body   []byte
	// whole: the body was no longer than a result may be.
	whole bool
	err   error
}

// checkURL reads a service's base URL.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not a URL") // err would show it, credentials and all
	case u.User != nil:
		return nil, errors.New("no user or password within the URL: calls are signed with the secret")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("must be http://HOST[:PORT][/PATH] or https://…")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("no query and no fragment: try, confirm and cancel are paths below it")
	}
	return u, nil
}

func newClient() *nethttp.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &nethttp.Client{
		// No proxy of the environment: the address is the one that was configured.
		Transport: &nethttp.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		// Nor does a redirect lead anywhere else.
		CheckRedirect: func(*nethttp.Request, []*nethttp.Request) error { return nethttp.ErrUseLastResponse },
	}
}

// call makes one call of the service about the reservation key.
func (m *Manager) call(ctx context.Context, name, key string, body []byte) reply {
	began := time.Now()
	r := m.roundTrip(ctx, name, key, body)
	if r.err != nil {
		r.err = fmt.Errorf("%s: %w", name, r.err)
	}
	m.meters.called(name, r.answer, time.Since(began))
	return r
}

func (m *Manager) roundTrip(ctx context.Context, name, key string, body []byte) reply {
	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodPost, m.url.JoinPath(name).String(), bytes.NewReader(body))
	if err != nil {
		return reply{answer: unsent, err: err}
	}
	req.Header.Set("User-Agent", "concordat")
	if json.Valid(body) {
		req.Header.Set("Content-Type", "application/json")
	} else if len(body) > 0 {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	m.secret.sign(req, key, body, time.Now())
	resp, err := m.client.Do(req)
	if err != nil {
		// An error of dialling says that no connection came about.
		if op, is := errors.AsType[*net.OpError](err); is && op.Op == "dial" {
			return reply{answer: unsent, err: err}
		}
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, fsm.MaxResultBytes+1))
	if err != nil {
		return reply{err: fmt.Errorf("the answer %s broke off: %w", resp.Status, err)}
	}
	r := reply{body: text, whole: len(text) <= fsm.MaxResultBytes}
	switch resp.StatusCode {
	case nethttp.StatusOK:
		r.answer = ok
	case nethttp.StatusConflict:
		r.answer = refused
	default:
		r.err = fmt.Errorf("the service answered %s, neither 200 nor 409: %q", resp.Status, words(text, maxShown))
	}
	return r
}

// said is the body of a refusal as a message.
func (r reply) said() string {
	if text := words(r.body, fsm.MaxReasonBytes); text != "" {
		return text
	}
	return "the service answered 409 without a word"
}

// words is text that can be shown: valid, of one line, and not too long.
func words(b []byte, limit int) string {
	text := strings.ToValidUTF8(string(b[:min(len(b), limit)]), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}
