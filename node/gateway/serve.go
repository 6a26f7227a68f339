package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// specPath is where the description of the interface is.
const specPath = "/openapi.json"

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.admits(r.Host) {
		g.fail(w, r, refuse(http.StatusMisdirectedRequest, "Host", "an address, localhost or a name that the node advertises", "%s", printable(r.Host)))
		return
	}
	if page, ok := g.page(r.URL.Path); ok {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			g.wrongMethod(w, r, []string{http.MethodGet})
			return
		}
		page.ServeHTTP(w, r)
		return
	}
	switch r.URL.Path {
	case "/", specPath:
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			g.wrongMethod(w, r, []string{http.MethodGet})
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.URL.Path == "/" {
			g.index(w)
			return
		}
		w.Header().Set("Content-Type", contentJSON)
		_, _ = w.Write(spec) // whoever left does not read it
	default:
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		g.route(w, r)
	}
}

type headerKey struct{}

// route has the generated handlers' mux find the handler. What is in the
// header is none of its business: it would log a Content-Type that it cannot read.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	bare := r.WithContext(context.WithValue(r.Context(), headerKey{}, r.Header))
	bare.Header = http.Header{}
	g.mux.ServeHTTP(w, bare)
}

// page finds what is served as it is.
func (g *Gateway) page(path string) (http.Handler, bool) {
	if h, ok := g.cfg.Pages[path]; ok {
		return h, true
	}
	for prefix, h := range g.cfg.Pages {
		if strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix) {
			return h, true
		}
	}
	return nil, false
}

// admits reports whether a request is addressed to this node under a name that
// is its own. No browser leaves the name out.
func (g *Gateway) admits(host string) bool {
	if g.cfg.Hosts == nil || host == "" {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name == "localhost" || slices.Contains(g.cfg.Hosts, name)
}
