package http

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// generator makes requests out of chance: mostly almost right ones, since what
// is wrong everywhere is refused at the door.
type generator struct {
	*rand.Rand
	// addresses are what a participant's endpoint may be: those of nodes and of participants.
	addresses []string
}

// generated is a request, as bytes.
type generated struct {
	method, text string
	// loose: HTTP itself may be broken in it, so that it may have no answer, or one of the server's own.
	loose bool
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// rarely is true once in n times.
func (g *generator) rarely(n int) bool { return g.IntN(n) == 0 }

// request makes one.
func (g *generator) request() generated {
	route := pick(g, routes...)
	method := route.method
	if g.rarely(15) {
		method = pick(g, "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "BREW", "PRI")
	}
	target := g.mutatedPath(g.path(route.path))
	if route.query != nil && !g.rarely(4) || g.rarely(20) {
		target += "?" + g.query(route.query)
	}
	body := ""
	if route.body != nil || g.rarely(40) {
		body = g.bodyOf(route)
	}
	header := g.header(body != "" || method == http.MethodPost)
	if !g.rarely(50) && !strings.Contains(strings.Join(header, "\n"), "-Timeout") {
		header = append(header, "Request-Timeout: 1s")
	}
	out := generated{method: method}
	if g.rarely(12) {
		out.loose = true
		out.text = g.broken(method, target, header, body)
		return out
	}
	out.text = request(method, target, header, body)
	if g.rarely(25) {
		out.text = chunked(method, target, header, body)
	}
	return out
}

// pattern is a route with what fills it.
type pattern struct {
	method, path string
	query        map[string][]string
	body         func(g *generator) string
}

var flags = []string{"true", "false", "1", "", "TRUE"}

var routes = []pattern{
	{"POST", "/v1/transactions", nil, (*generator).submit},
	{"POST", "/v1/transactions", nil, (*generator).submit},
	{"POST", "/v1/transactions", nil, (*generator).submit},
	{"GET", "/v1/transactions", map[string][]string{
		"state": {"committed", "aborted,preparing", "unfinished", "STATE_ABORTED", "STATE_UNSPECIFIED", "", "9"}, "participant": {"a", "b", "A", ""},
		"limit": {"0", "1", "3", "1000", "1001", "-1", "4294967296", "1e3", "0x1"}, "order": {"id", "oldest", "newest", "OLDEST_FIRST", "3"},
		"after": {"f-1", "7", "7-f-1", "%00", "%ff", "zzz"}, "min_age": {"0s", "1h", "-1s", "1ns", "9999999h", "3000000h"}, "unfinished": flags, "needs_operator": flags,
	}, nil},
	{"GET", "/v1/transactions/{id}", map[string][]string{"stale": flags}, nil},
	{"POST", "/v1/transactions/{id}:abort", nil, (*generator).abort},
	{"POST", "/v1/transactions/{id}:resolve", nil, (*generator).resolve},
	{"POST", "/v1/transactions/{id}:retry", nil, (*generator).empty},
	{"GET", "/v1/transactions:watch", map[string][]string{
		"id": {"f-1", "", "a/b"}, "state": {"committed", "x"}, "participant": {"a", "-", "é"}, "resume": {"0", "1", "5-1-f-1", "99999999", "-", "18446744073709551616"}, "existing": flags,
	}, nil},
	{"GET", "/v1/participants", map[string][]string{"x": {""}}, nil},
	{"POST", "/v1/participants", nil, (*generator).participant},
	{"DELETE", "/v1/participants/{name}", map[string][]string{"give_up": flags, "operator": {"ann", "%0a", strings.Repeat("x", 65)}}, nil},
	{"POST", "/v1/participants/{name}:retry", nil, (*generator).empty},
	{"GET", "/v1/cluster", nil, nil},
	{"GET", "/v1/alerts", map[string][]string{"local": flags}, nil},
	{"GET", "/", nil, nil},
	{"GET", "/metrics", nil, nil},
	{"GET", "/healthz", nil, nil},
	{"GET", "/readyz", map[string][]string{"leader": {"1", "%zz"}}, nil},
	{"GET", "/openapi.json", nil, nil},
	{"POST", "/v1/cluster:transfer", nil, (*generator).transfer},
}

// id is a transaction's: few, so that requests meet.
func (g *generator) id() string {
	if g.rarely(8) {
		return pick(g, "", ".", "..", "a/b", "a:b", "a:abort", "é", "\x00", " ", strings.Repeat("x", 49), strings.Repeat("x", 5000), "%2e", "-", "_", "a\nb", "null")
	}
	return fmt.Sprintf("f-%d", g.IntN(200))
}

// name is a participant's. Those with work to do are not removed.
func (g *generator) name() string {
	return pick(g, "spare", "nobody", "A", "", "a b", "x/y", strings.Repeat("n", 65), "é", "spare:retry")
}

func (g *generator) path(template string) string {
	return strings.NewReplacer("{id}", escapePath(g.id()), "{name}", escapePath(g.name())).Replace(template)
}

// escapePath writes what cannot stand in a request's line as escapes.
func escapePath(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (g *generator) mutatedPath(path string) string {
	for g.rarely(12) {
		at := g.IntN(len(path)) + 1
		switch g.IntN(6) {
		case 0:
			path = path[:at] + pick(g, "/", "//", ":", ":abort", "..", "/../", "%2F", "%3A", "%00", "%25", "%C0%80", ";", "*", "{id}", "+") + path[at:]
		case 1:
			path = path[:at]
		case 2:
			path += pick(g, "/", ":abort", ":watch", "/.", "%")
		case 3:
			path = path[:at-1] + fmt.Sprintf("%%%02x", path[at-1]) + path[at:]
		case 4:
			path = strings.Replace(path, "v1", pick(g, "V1", "v2", "", "v1/v1"), 1)
		default:
			path = strings.ToUpper(path)
		}
		if path == "" || path[0] != '/' {
			path = "/" + path
		}
	}
	return path
}

func (g *generator) query(known map[string][]string) string {
	var names []string
	for _, name := range []string{"state", "participant", "limit", "order", "after", "min_age", "unfinished", "needs_operator", "stale", "id", "resume", "existing", "give_up", "operator", "local", "leader", "x"} {
		if _, ok := known[name]; ok && g.rarely(2) || g.rarely(150) {
			names = append(names, name)
		}
	}
	var parts []string
	for _, name := range names {
		value := "1"
		if list := known[name]; len(list) > 0 {
			value = escapePath(pick(g, list...))
		}
		if g.rarely(30) {
			value = pick(g, "%", "%zz", "%ff", "%00", "a%20b", strings.Repeat("9", 400), "&", "=", ";", "+", "[]")
		}
		parts = append(parts, name+pick(g, "=", "=", "=", "=", "=", "=", "", "==")+value)
		if g.rarely(20) {
			parts = append(parts, parts[0])
		}
	}
	return strings.Join(parts, pick(g, "&", "&", "&", "&", "&", ";", "&&"))
}

func (g *generator) header(body bool) (lines []string) {
	if body && !g.rarely(20) {
		lines = append(lines, pick(g, "Content-Type: application/json", "content-type: application/json", "Content-Type: application/json; charset=utf-8"))
	}
	if g.rarely(4) {
		lines = append(lines, "Request-Timeout: "+pick(g, "1s", "1ms", "3ms", "20ms", "0.5s"))
	}
	for g.rarely(3) {
		lines = append(lines, pick(g,
			"Content-Type: text/plain", "Content-Type: application/json; charset=latin1", "Content-Type: ;", "Content-Type:", "Content-Encoding: gzip", "Content-Encoding: identity",
			"Request-Timeout: 1s", "Request-Timeout: -1s", "Request-Timeout: 99999h", "Request-Timeout:", "Grpc-Timeout: 1S", "Grpc-Timeout: 5", "Grpc-Timeout: 99999999H", "Grpc-Timeout: 1n",
			"Last-Event-ID: 1", "Last-Event-ID: 5-1-f-1", "Last-Event-ID: \xff", "Last-Event-ID:", "Accept: text/html", "Accept: */*;q=0", "Accept-Encoding: gzip",
			"Grpc-Metadata-Concordat-Hop: 1", "Grpc-Metadata-X-Bin: \x80", "Concordat-Hop: 1", "X-HTTP-Method-Override: DELETE", "X-Forwarded-Host: attacker.example", "Forwarded: for=x",
			"Cookie: a=b", "Authorization: Basic Og==", "Origin: http://attacker.example", "Access-Control-Request-Method: POST", "If-None-Match: *", "Range: bytes=0-0", "X: "+strings.Repeat("y", g.IntN(3000)),
			"Traceparent: 00-0-0-0", "Te: trailers", "Connection: close", "Connection: keep-alive, X", "Cache-Control: no-cache", "Sec-Fetch-Site: cross-site",
		))
	}
	return lines
}

func chunked(method, target string, header []string, body string) string {
	text := request(method, target, append(header, "Transfer-Encoding: chunked"), "")
	text = strings.Replace(text, "Content-Length: 0\r\n", "", 1)
	if body != "" {
		text += fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	}
	return text + "0\r\n\r\n"
}

// broken is a request whose HTTP is not right.
func (g *generator) broken(method, target string, header []string, body string) string {
	for g.rarely(2) {
		header = append(header, pick(g,
			"Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999", "Host: attacker.example", "Host:",
			"Expect: 100-continue", "Expect: nothing", "Upgrade: h2c", "Connection: Upgrade", "X : y", " folded", "no colon", "X: \x00", "X: a\rb", "Trailer: Content-Length",
		))
	}
	text := []byte(request(method, target, header, body))
	for n := g.IntN(4); n > 0 && len(text) > 0; n-- {
		at := g.IntN(len(text))
		switch g.IntN(4) {
		case 0:
			text[at] = byte(g.IntN(256))
		case 1:
			text = append(text[:at:at], text[at+1:]...)
		case 2:
			text = append(text[:at:at], append([]byte(pick(g, "\r\n", "\n", " ", "\x00", "\r\n\r\n", "HTTP/2.0")), text[at:]...)...)
		default:
			text = text[:at+1]
		}
	}
	return string(text)
}

// TestGenerator: a request whose mutations leave nothing of it is one, too.
func TestGenerator(t *testing.T) {
	empty := 0
	for number := range uint64(200_000) {
		g := &generator{rand.New(rand.NewPCG(1, number)), nil}
		if g.broken("GET", "/", nil, "") == "" {
			empty++
		}
	}
	if empty == 0 {
		t.Error("none was emptied: the case is not covered")
	}
}
