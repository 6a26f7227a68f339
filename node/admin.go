package node

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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

// adminHandler serves metrics and health.
func (n *Node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", n.readyz)
	if n.cfg.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
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

func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10}
}
