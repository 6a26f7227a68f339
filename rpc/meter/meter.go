package meter

import (
	"context"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/concordat-tx/concordat/rpc"
)

// Calls counts the calls that a gRPC server answered, by method and code. Both
// are bounded: only registered methods come to an interceptor. Make it with
// NewCalls; it is a prometheus.Collector.
type Calls struct {
	*prometheus.CounterVec
	answered sync.Map // kind to prometheus.Counter: spares the labels' look-up
}

type kind struct {
	method string
	code   codes.Code
}

// NewCalls makes a Calls that has counted nothing.
func NewCalls() *Calls {
	return &Calls{CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "concordat", Name: "grpc_calls_total", Help: "Calls answered by the gRPC server, streams apart.",
	}, []string{"method", "code"})}
}

// Unary is the interceptor that counts.
func (c *Calls) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	c.Answered(info.FullMethod, err)
	return resp, err
}

// Answered counts a call that no interceptor sees.
func (c *Calls) Answered(method string, err error) {
	code := codes.OK
	if err != nil {
		code = rpc.FromError(err).Reason.Code()
	}
	c.counter(kind{method, code}).Inc()
}

func (c *Calls) counter(k kind) prometheus.Counter {
	if known, ok := c.answered.Load(k); ok {
		return known.(prometheus.Counter)
	}
	fresh := c.WithLabelValues(k.method, k.code.String())
	c.answered.Store(k, fresh)
	return fresh
}

// Process returns the collectors of a process: its build, Go's runtime, and
// what the operating system knows of it.
func Process(version string) []prometheus.Collector {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "concordat", Name: "build_info", Help: "Always 1; the labels tell the version of this program and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	return []prometheus.Collector{
		build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
}
