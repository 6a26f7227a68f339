package meter

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc"
)

func TestCallsAreCountedByMethodAndCode(t *testing.T) {
	tests := map[string]struct {
		err  error
		code string
	}{
		"answered":   {nil, "OK"},
		"typed":      {rpc.Errorf(rpc.ReasonNotFound, "nothing"), "NotFound"},
		"cancelled":  {context.Canceled, "Canceled"},
		"unexpected": {errors.New("odd"), "Internal"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := NewCalls()
			var callers sync.WaitGroup
			for range 20 {
				callers.Go(func() {
					resp, err := c.Unary(t.Context(), "question", &grpc.UnaryServerInfo{FullMethod: "/s/M"},
						func(_ context.Context, req any) (any, error) { return req.(string) + "?", test.err })
					if resp != "question?" || !errors.Is(err, test.err) {
						t.Errorf("the interceptor changed the answer: %v, %v", resp, err)
					}
				})
			}
			callers.Wait()
			r := prometheus.NewRegistry()
			r.MustRegister(c)
			families, err := r.Gather()
			if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
				t.Fatalf("got %v, %v; want one series", families, err)
			}
			m := families[0].GetMetric()[0]
			code, method := m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue()
			if v := m.GetCounter().GetValue(); v != 20 || code != test.code || method != "/s/M" {
				t.Errorf("counted %v calls of %s with %s, want 20 with %s", v, method, code, test.code)
			}
		})
	}
}

func TestProcessCollectorsShareARegistry(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(Process("v1")...)
	r.MustRegister(NewCalls())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "concordat_build_info" && len(f.GetMetric()[0].GetLabel()) == 2 {
			return
		}
	}
	t.Errorf("no concordat_build_info{version,go} among %d families", len(families))
}

func BenchmarkCalls(b *testing.B) {
	c := NewCalls()
	info := &grpc.UnaryServerInfo{FullMethod: "/s/M"}
	next := func(context.Context, any) (any, error) { return nil, nil }
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Unary(b.Context(), nil, info, next)
	}
}
