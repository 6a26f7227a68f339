package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/gateway"
)

// healthState is what load balancers and probes are told, over gRPC and HTTP.
type healthState struct{ server *health.Server }

// leaderService is the health service name that serves on the leader only.
const leaderService = "concordat.leader"

func newHealth() healthState {
	h := healthState{health.NewServer()}
	h.leading(false)
	return h
}

func (h healthState) leading(yes bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if yes {
		status = healthpb.HealthCheckResponse_SERVING
	}
	h.server.SetServingStatus(leaderService, status)
}

// stopTimeout is how long answers that are being written may take at the end.
const stopTimeout = 500 * time.Millisecond

// openGateway makes the handler of everything that is served over HTTP. Who
// listens on loopback only has no name but localhost and what it advertises;
// others may be reached by names that they do not know.
func (n *Node) openGateway() (err error) {
	var hosts []string
	if tcp, ok := n.httpListener.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		for _, address := range []string{n.cfg.Cluster.HTTPAddress, n.cfg.Cluster.RPCAddress} {
			if host, _, err := net.SplitHostPort(address); err == nil {
				hosts = append(hosts, strings.ToLower(host))
			}
		}
	}
	n.gateway, err = gateway.New(gateway.Config{Logger: n.log, Pages: n.pages(), Hosts: hosts, Index: func() (index uint64) {
		n.replica.View(func(m *fsm.Machine) { index = m.Index() })
		return index
	}})
	if err != nil {
		return fmt.Errorf("open the HTTP interface: %w", err)
	}
	return nil
}

// pages are metrics, health and, if asked for, Go's profiles.
func (n *Node) pages() map[string]http.Handler {
	pages := map[string]http.Handler{
		"/metrics": promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}),
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }),
		"/readyz":  http.HandlerFunc(n.readyz),
	}
	if n.cfg.Profiling {
		pages["/debug/pprof/"] = http.HandlerFunc(pprof.Index)
		pages["/debug/pprof/profile"] = http.HandlerFunc(pprof.Profile)
		pages["/debug/pprof/trace"] = http.HandlerFunc(pprof.Trace)
	}
	return pages
}

// readyz tells whether a client may be sent here: this node leads, or knows a
// leader to forward to. With ?leader=1 only the leader is ready.
func (n *Node) readyz(w http.ResponseWriter, r *http.Request) {
	leads := n.leader.Load() != nil
	leader := n.replica.LeaderID()
	switch {
	case n.draining.Load():
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
	case leads:
		fmt.Fprintln(w, "ok: leader")
	case r.URL.Query().Get("leader") == "1":
		http.Error(w, "not the leader", http.StatusServiceUnavailable)
	case leader == "" || leader == n.cfg.Cluster.NodeID || n.addressOf(leader) == "":
		http.Error(w, "no leader is ready", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok: follower of "+leader)
	}
}

// newHTTPServer bounds what a client may send and how slowly.
func newHTTPServer(h http.Handler, log hclog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}
}

// stopHTTP lets answers that are there be written, and ends everything else.
func stopHTTP(s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.Shutdown(ctx) == nil {
		return nil
	}
	return s.Close()
}
