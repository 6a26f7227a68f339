package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// route is what a request may consist of. There is one for each rule of
// http.yaml; a test compares them.
type route struct {
	method, path string
	// summary is one line for people.
	summary string
	// message makes the request that the query or the body is read into.
	message func() proto.Message
	// fromPath are its fields that the path gives, or that the route has no use for.
	fromPath []string
	// body: the message is the body, not the query.
	body bool
	// optional: the body may be empty.
	optional bool
	// matches is the path as an expression.
	matches *regexp.Regexp
}

func (r route) key() string { return r.method + " " + r.path }

// parameter is a variable of a path.
var parameter = regexp.MustCompile(`\{[a-z_]+\}`)

var routes = byKey(
	route{method: http.MethodPost, path: "/v1/transactions", summary: "run a transaction",
		message: func() proto.Message { return &pb.SubmitRequest{} }, body: true},
	route{method: http.MethodGet, path: "/v1/transactions", summary: "list transactions, page by page",
		message: func() proto.Message { return &pb.ListRequest{} }},
	route{method: http.MethodGet, path: "/v1/transactions/{id}", summary: "what is known of a transaction",
		message: func() proto.Message { return &pb.GetRequest{} }, fromPath: []string{"id"}},
	route{method: http.MethodPost, path: "/v1/transactions/{id}:abort", summary: "abort it if it is not decided",
		message: func() proto.Message { return &pb.AbortRequest{} }, fromPath: []string{"id"}, body: true, optional: true},
	route{method: http.MethodPost, path: "/v1/transactions/{id}:resolve", summary: "an operator's word on it",
		message: func() proto.Message { return &pb.ResolveRequest{} }, fromPath: []string{"id"}, body: true},
	route{method: http.MethodPost, path: "/v1/transactions/{id}:retry", summary: "call its branches again at once",
		message: func() proto.Message { return &pb.RetryRequest{} }, fromPath: []string{"id", "participant"}, body: true, optional: true},
	route{method: http.MethodGet, path: "/v1/transactions:watch", summary: "what becomes of transactions, as server-sent events",
		message: func() proto.Message { return &pb.WatchRequest{} }},
	route{method: http.MethodGet, path: "/v1/participants", summary: "list the participants",
		message: func() proto.Message { return &pb.ListParticipantsRequest{} }},
	route{method: http.MethodPost, path: "/v1/participants", summary: "register a participant, or change its endpoints",
		message: func() proto.Message { return &pb.AddParticipantRequest{} }, body: true},
	route{method: http.MethodDelete, path: "/v1/participants/{name}", summary: "drain and remove a participant",
		message: func() proto.Message { return &pb.RemoveParticipantRequest{} }, fromPath: []string{"name"}},
	route{method: http.MethodPost, path: "/v1/participants/{participant}:retry", summary: "call its branches again at once",
		message: func() proto.Message { return &pb.RetryRequest{} }, fromPath: []string{"id", "participant"}, body: true, optional: true},
	route{method: http.MethodGet, path: "/v1/cluster", summary: "this node's view of the cluster",
		message: func() proto.Message { return &pb.StatusRequest{} }},
	route{method: http.MethodPost, path: "/v1/cluster:transfer", summary: "hand the leadership to another node",
		message: func() proto.Message { return &pb.TransferLeadershipRequest{} }, body: true, optional: true},
	route{method: http.MethodGet, path: "/v1/alerts", summary: "what an operator must know of now",
		message: func() proto.Message { return &pb.ListAlertsRequest{} }},
)

func byKey(list ...route) map[string]route {
	all := make(map[string]route, len(list))
	for _, r := range list {
		// Paths hold nothing else that means something in an expression.
		pattern := parameter.ReplaceAllString(r.path, "[^/]*")
		r.matches = regexp.MustCompile("^" + pattern + "$")
		all[r.key()] = r
	}
	return all
}

// methodsOf are the methods that a path takes.
func methodsOf(path string) []string {
	var methods []string
	for _, r := range routes {
		if r.matches.MatchString(path) {
			methods = append(methods, r.method)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// index is the plain page at /.
func (g *Gateway) index(w http.ResponseWriter) {
	list := make([]route, 0, len(routes))
	for _, r := range routes {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b route) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.method, b.method))
	})
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "Concordat: this node's HTTP interface")
	fmt.Fprintln(w)
	for _, r := range list {
		fmt.Fprintf(w, "%-7s%-38s%s\n", r.method, r.path, r.summary)
	}
	fmt.Fprintf(w, "%-7s%-38s%s\n", http.MethodGet, specPath, "all of this as OpenAPI")
	pages := make([]string, 0, len(g.cfg.Pages))
	for path := range g.cfg.Pages {
		pages = append(pages, path)
	}
	slices.Sort(pages)
	for _, path := range pages {
		fmt.Fprintf(w, "%-7s%s\n", http.MethodGet, path)
	}
}
