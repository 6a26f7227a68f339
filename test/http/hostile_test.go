package http

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const get = `{"id": "x", "branches": [{"participant": "a", "payload": {"ops": [{"op": "get", "key": "k"}]}}]}`

var asJSON = []string{"Content-Type: application/json"}

// What is refused, with which status and which field, whoever is asked; a
// refused request leaves nothing in the log and nothing in the processes' logs.
func TestHostileRequests(t *testing.T) {
	w := newWorld(t, "a")
	nested := func(n int) string {
		return `{"branches": [{"participant": "a", "payload": ` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}]}`
	}
	payload := func(p string) string { return `{"branches": [{"participant": "a", "payload": ` + p + `}]}` }
	tests := map[string]struct {
		method, target string
		header         []string
		body           string
		status         int
		field          string
	}{
		"an unknown field":             {"POST", "/v1/transactions", asJSON, `{"ID": "x"}`, 400, "ID"},
		"a field twice":                {"POST", "/v1/transactions", asJSON, `{"id": "x", "id": "y", "branches": []}`, 400, "id"},
		"a field twice, escaped":       {"POST", "/v1/transactions", asJSON, `{"id": "x", "\u0069d": "y"}`, 400, "id"},
		"a field of a payload twice":   {"POST", "/v1/transactions", asJSON, payload(`{"ops": [], "ops": []}`), 400, "branches[0].payload.ops"},
		"an unknown operation":         {"POST", "/v1/transactions", asJSON, payload(`{"ops": [{"op": "drop"}]}`), 400, "branches[0].payload.ops[0].op"},
		"two objects":                  {"POST", "/v1/transactions", asJSON, get + get, 400, "request"},
		"a list":                       {"POST", "/v1/transactions", asJSON, "[" + get + "]", 400, "request"},
		"null":                         {"POST", "/v1/transactions", asJSON, "null", 400, "request"},
		"no body":                      {"POST", "/v1/transactions", asJSON, "", 400, "request"},
		"no UTF-8":                     {"POST", "/v1/transactions", asJSON, "{\"id\": \"\xff\"}", 400, "request"},
		"UTF-16":                       {"POST", "/v1/transactions", asJSON, "\xfe\xff\x00{\x00}", 400, "request"},
		"nested":                       {"POST", "/v1/transactions", asJSON, nested(9000), 400, "branches[0].payload"},
		"nested deeper":                {"POST", "/v1/transactions", asJSON, nested(100_000), 400, "branches"},
		"a payload too large":          {"POST", "/v1/transactions", asJSON, payload(`"` + strings.Repeat("x", 64<<10) + `"`), 400, "branches[0].payload"},
		"a body too large":             {"POST", "/v1/transactions", asJSON, strings.Repeat(" ", 289<<10), 413, "request"},
		"no branches":                  {"POST", "/v1/transactions", asJSON, `{"id": "x"}`, 400, "branches"},
		"a bad id":                     {"POST", "/v1/transactions", asJSON, strings.Replace(get, `"x"`, `"x/y"`, 1), 400, "id"},
		"a long budget":                {"POST", "/v1/transactions", asJSON, `{"timeout": "61s", ` + get[1:], 400, "timeout"},
		"a budget without a unit":      {"POST", "/v1/transactions", asJSON, `{"timeout": "5", ` + get[1:], 400, "timeout"},
		"an overflowing budget":        {"POST", "/v1/transactions", asJSON, `{"timeout": "9223372036854775807h", ` + get[1:], 400, "timeout"},
		"a form":                       {"POST", "/v1/transactions", []string{"Content-Type: application/x-www-form-urlencoded"}, "id=x", 415, "Content-Type"},
		"plain text":                   {"POST", "/v1/transactions", []string{"Content-Type: text/plain"}, get, 415, "Content-Type"},
		"no type":                      {"POST", "/v1/transactions", nil, get, 415, "Content-Type"},
		"two types":                    {"POST", "/v1/transactions", []string{asJSON[0], "Content-Type: text/plain"}, get, 415, "Content-Type"},
		"another charset":              {"POST", "/v1/transactions", []string{"Content-Type: application/json; charset=utf-16"}, get, 415, "Content-Type"},
		"compressed":                   {"POST", "/v1/transactions", []string{asJSON[0], "Content-Encoding: gzip"}, get, 415, "Content-Encoding"},
		"compressed twice":             {"POST", "/v1/transactions", []string{asJSON[0], "Content-Encoding: identity", "Content-Encoding: gzip"}, get, 415, "Content-Encoding"},
		"a query beside a body":        {"POST", "/v1/transactions?id=y", asJSON, get, 400, "query"},
		"a body of a GET":              {"GET", "/v1/cluster", asJSON, "{}", 400, "request"},
		"a parameter nobody knows":     {"GET", "/v1/cluster?x=1", nil, "", 400, "x"},
		"an id in the body of a path":  {"POST", "/v1/transactions/x:abort", asJSON, `{"id": "y"}`, 400, "id"},
		"no id":                        {"GET", "/v1/transactions/", nil, "", 400, "id"},
		"an unknown verb":              {"GET", "/v1/transactions/x:commit", nil, "", 400, "id"},
		"a verb of POST":               {"GET", "/v1/transactions/x:abort", nil, "", 400, "id"},
		"two verbs":                    {"POST", "/v1/transactions/x:abort:abort", asJSON, "{}", 400, "id"},
		"only a verb":                  {"POST", "/v1/transactions/:abort", asJSON, "{}", 405, ""},
		"an escaped verb":              {"POST", "/v1/transactions/x%2Fy%3Aabort", asJSON, "{}", 404, ""},
		"an escaped slash":             {"GET", "/v1/transactions/a%2Fb", nil, "", 404, ""},
		"dots":                         {"GET", "/v1/transactions/../cluster", nil, "", 404, ""},
		"escaped dots":                 {"GET", "/v1/transactions/%2e%2e", nil, "", 400, "id"},
		"a zero byte":                  {"GET", "/v1/transactions/%00", nil, "", 400, "id"},
		"bytes that are no UTF-8":      {"GET", "/v1/transactions/%ff", nil, "", 400, "id"},
		"two slashes":                  {"GET", "//v1/cluster", nil, "", 404, ""},
		"a slash behind":               {"GET", "/v1/cluster/", nil, "", 404, ""},
		"another version":              {"GET", "/v2/cluster", nil, "", 404, ""},
		"a path of gRPC":               {"POST", "/concordat.v1.Coordinator/Submit", []string{"Content-Type: application/grpc"}, "", 404, ""},
		"PUT":                          {"PUT", "/v1/transactions/x", asJSON, "{}", 405, ""},
		"PUT of nothing":               {"PUT", "/v1/transactions/", asJSON, "{}", 405, ""},
		"OPTIONS":                      {"OPTIONS", "/v1/transactions", nil, "", 405, ""},
		"a method of somebody":         {"BREW", "/v1/cluster", nil, "", 405, ""},
		"a method over another":        {"POST", "/v1/cluster", []string{asJSON[0], "X-HTTP-Method-Override: GET"}, "", 405, ""},
		"two time-outs":                {"GET", "/v1/cluster", []string{"Request-Timeout: 5s", "Request-Timeout: 5s"}, "", 400, "Request-Timeout"},
		"a time-out that is none":      {"GET", "/v1/cluster", []string{"Grpc-Timeout: 5"}, "", 400, "Grpc-Timeout"},
		"a token that is none":         {"GET", "/v1/transactions:watch?resume=x", nil, "", 400, "resume"},
		"an event that is none":        {"GET", "/v1/transactions:watch", []string{"Last-Event-ID: \xe9"}, "", 400, "Last-Event-Id"},
		"two events":                   {"GET", "/v1/transactions:watch", []string{"Last-Event-ID: 1", "Last-Event-ID: 2"}, "", 400, "Last-Event-Id"},
		"another host":                 {"GET", "http://attacker.example/v1/cluster", nil, "", 421, "Host"},
		"another host of the metrics":  {"GET", "http://attacker.example/metrics", nil, "", 421, "Host"},
		"a proxy's request":            {"CONNECT", "127.0.0.1:1", nil, "", 400, "path"},
		"a limit over the limit":       {"GET", "/v1/transactions?limit=4294967296", nil, "", 400, "limit"},
		"an operator's word and more":  {"POST", "/v1/transactions/x:resolve", asJSON, `{"acknowledge": true, "give_up": ["a"]}`, 400, "give_up"},
		"a resolve of nothing":         {"POST", "/v1/transactions/x9:resolve", asJSON, `{"acknowledge": true}`, 404, ""},
		"a removal of nobody":          {"DELETE", "/v1/participants/nobody", nil, "", 409, ""},
		"a type that nobody can read":  {"POST", "/v1/nothing", []string{"Content-Type: ;"}, "{}", 404, ""},
		"an address that is none":      {"POST", "/v1/participants", asJSON, `{"name": "a", "endpoints": ["nowhere"]}`, 400, "endpoints[0]"},
		"a participant without a name": {"POST", "/v1/participants", asJSON, `{"name": "", "endpoints": ["127.0.0.1:1"]}`, 400, "name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range w.nodes {
				send := func() response {
					return w.exchange(i, test.method, request(test.method, test.target, test.header, test.body), false, patience)
				}
				r := send()
				if r.err != nil || r.status != test.status {
					t.Fatalf("node %d: %d, want %d: %s, %v", i, r.status, test.status, r.body, r.err)
				}
				if err := w.doc.checkError(r); err != nil {
					t.Error(err)
				}
				if e := r.failure(t); e.Details["field"] != test.field {
					t.Errorf("field %q, want %q: %s", e.Details["field"], test.field, r.body)
				}
				if r.status == http.StatusMethodNotAllowed && r.header.Get("Allow") == "" {
					t.Errorf("allowed are %q: %s", r.header.Get("Allow"), r.body)
				}
				if err := w.leavesNoTrace(send); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Bytes that are no HTTP, or HTTP that two readers may read as two things. The
// server's own refusals are no JSON.
func TestHostileBytes(t *testing.T) {
	w := newWorld(t, "a")
	const post = "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		text     string
		statuses string // those that are right; 0 is none at all, 499 that the end was taken for the client's
	}{
		"two lengths":              {post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400"},
		"a length and chunks":      {post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "400 499"},
		"chunks by another name":   {post + "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "501"},
		"a negative length":        {post + "Content-Length: -1\r\n\r\n", "400"},
		"a header with a space":    {post + "Content-Length : 2\r\n\r\n{}", "400"},
		"a folded header":          {post + "X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", "400 499"},
		"no host":                  {"GET /v1/cluster HTTP/1.1\r\n\r\n", "400"},
		"two hosts":                {"GET /v1/cluster HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", "400"},
		"a bad escape":             {"GET /v1/transactions/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		"HTTP/2 without an offer":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "0 400 505"},
		"TLS":                      {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", "0 400"},
		"headers without an end":   {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", "431"},
		"a body that ends early":   {post + "Content-Length: 100\r\n\r\n{", "400"},
		"chunks that end early":    {post + "Transfer-Encoding: chunked\r\n\r\n100\r\n{", "400"},
		"chunks that are too many": {post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("8000\r\n"+strings.Repeat(" ", 0x8000)+"\r\n", 10) + "0\r\n\r\n", "413"},
		"a chunk of a bad length":  {post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "400"},
		"chunks of a GET":          {"GET /v1/cluster HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.exchange(0, http.MethodPost, test.text, true, patience)
			if !strings.Contains(test.statuses, fmt.Sprint(r.status)) {
				t.Errorf("got %d %s %v, want %s", r.status, r.body, r.err, test.statuses)
			}
		})
	}
	for name, text := range map[string]string{
		"HTTP/1.0":                "GET /v1/cluster HTTP/1.0\r\n\r\n",
		"HTTP/1.0 that posts":     fmt.Sprintf("POST /v1/transactions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(get), get),
		"chunks":                  fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", post, len(get), get),
		"a charset":               request("POST", "/v1/transactions", []string{"Content-Type: application/json; charset=UTF-8"}, get),
		"identity":                request("POST", "/v1/transactions", []string{asJSON[0], "Content-Encoding: identity"}, get),
		"an abort without body":   request("POST", "/v1/transactions/x:abort", asJSON, ""),
		"metadata for gRPC":       request("POST", "/v1/transactions", []string{asJSON[0], "Grpc-Metadata-Concordat-Hop: 1", "Concordat-Hop: 1"}, get),
		"a binary header of gRPC": request("GET", "/v1/cluster", []string{"Grpc-Metadata-X-Bin: !!"}, ""),
	} {
		t.Run(name, func(t *testing.T) {
			for i := range w.nodes { // metadata that came through would keep a follower from forwarding
				w.exchange(i, http.MethodPost, text, false, patience).expect(t, http.StatusOK, "{")
			}
		})
	}
}

// A body that comes slowly holds no place of others, and what holds places is
// bounded and refused with a hint.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t, "a")
	done := make(chan response, 200)
	for range cap(done) {
		go func() {
			done <- w.exchange(0, http.MethodPost, "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", false, 2*time.Second)
		}()
	}
	w.send(0, http.MethodPost, "/v1/transactions", nil, get).expect(t, http.StatusOK, `"outcome":"COMMIT"`)
	for range cap(done) {
		if r := <-done; r.err == nil {
			t.Errorf("half a body was answered: %d %s", r.status, r.body)
		}
	}
}
