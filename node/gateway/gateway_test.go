package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/jsonform"
)

func TestTimeouts(t *testing.T) {
	tests := map[string]struct {
		own, grpc []string
		want      time.Duration
		field     string
	}{
		"none":                {nil, nil, rpc.DefaultDeadline, ""},
		"a duration":          {[]string{"1m30s"}, nil, 90 * time.Second, ""},
		"the least":           {[]string{"1ms"}, nil, time.Millisecond, ""},
		"gRPC's":              {nil, []string{"250m"}, 250 * time.Millisecond, ""},
		"gRPC's hour":         {nil, []string{"1H"}, time.Hour, ""},
		"too long":            {[]string{"61m"}, nil, 0, timeoutHeader},
		"nothing at all":      {[]string{"0s"}, nil, 0, timeoutHeader},
		"negative":            {[]string{"-5s"}, nil, 0, timeoutHeader},
		"no unit":             {[]string{"5"}, nil, 0, timeoutHeader},
		"empty":               {[]string{""}, nil, 0, timeoutHeader},
		"twice":               {[]string{"5s", "5s"}, nil, 0, timeoutHeader},
		"both":                {[]string{"5s"}, []string{"5S"}, 0, timeoutHeader},
		"gRPC's without unit": {nil, []string{"5"}, 0, grpcTimeoutHeader},
		"gRPC's other unit":   {nil, []string{"5s"}, 0, grpcTimeoutHeader},
		"gRPC's nine digits":  {nil, []string{"000000005S"}, 0, grpcTimeoutHeader},
		"gRPC's overflow":     {nil, []string{"99999999H"}, 0, grpcTimeoutHeader},
		"gRPC's negative":     {nil, []string{"-5S"}, 0, grpcTimeoutHeader},
		"gRPC's nanoseconds":  {nil, []string{"99999999n"}, 99999999, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if test.own != nil {
				h[timeoutHeader] = test.own
			}
			if test.grpc != nil {
				h[grpcTimeoutHeader] = test.grpc
			}
			got, err := timeoutOf(h)
			if test.field == "" && (err != nil || got != test.want) {
				t.Errorf("got %v, %v", got, err)
			}
			if test.field != "" && (err == nil || rpc.FromError(err).Field != test.field || rpc.FromError(err).Limit == "") {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	g := &Gateway{cfg: Config{Hosts: []string{"node-1.example"}}}
	for host, want := range map[string]bool{
		"": true, "127.0.0.1": true, "127.0.0.1:7201": true, "[::1]:7201": true, "localhost:7201": true, "LOCALHOST": true, "localhost.": true,
		"node-1.example:7201": true, "Node-1.Example.": true,
		"attacker.example": false, "attacker.example:7201": false, "127.0.0.1.attacker.example": false, "localhost.attacker.example:80": false, "x:y:z": false,
	} {
		if got := g.admits(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if !(&Gateway{}).admits("anything.example") {
		t.Error("a gateway without names refuses one")
	}
}

func TestStatuses(t *testing.T) {
	for reason, want := range map[rpc.ErrorReason]int{
		rpc.ReasonInvalidArgument: 400, rpc.ReasonNotFound: 404, rpc.ReasonIDReused: 409, rpc.ReasonExpired: 409, rpc.ReasonNotDecided: 409,
		rpc.ReasonParticipantUnknown: 409, rpc.ReasonConflictingState: 409, rpc.ReasonOverloaded: 429, rpc.ReasonDiskReserve: 429, rpc.ReasonCancelled: 499,
		rpc.ReasonOutcomeUnknown: 503, rpc.ReasonNoLeader: 503, rpc.ReasonNotLeader: 503, rpc.ReasonNotReady: 503, rpc.ReasonConnectionLost: 503,
		rpc.ReasonParticipantUnavailable: 503, rpc.ReasonShuttingDown: 503, rpc.ReasonDeadline: 504, rpc.ReasonUnimplemented: 501, rpc.ReasonInternal: 500,
	} {
		if got := statusOf(rpc.Errorf(reason, "x")); got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
	}
}

func TestSpecIsValid(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if ids[op.OperationID] {
				t.Errorf("%s %s: a second %s", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
}

// TestSpecAndRoutes: what is described, what is registered and what is read are the same.
func TestSpecAndRoutes(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			key := method + " " + path
			described[key] = true
			r, ok := routes[key]
			if !ok {
				t.Errorf("%s is described, and not read", key)
				continue
			}
			if r.body != (op.RequestBody != nil) || r.body && r.optional == op.RequestBody.Value.Required {
				t.Errorf("%s: the bodies differ", key)
			}
			for _, p := range op.Parameters {
				if p.Value.In == "path" && !slices.Contains(r.fromPath, p.Value.Name) {
					t.Errorf("%s: %s is of the path", key, p.Value.Name)
				}
				if p.Value.In != "query" {
					continue
				}
				// A value that suits no type: known names are told from others by the error.
				err := jsonform.ParseQuery(p.Value.Name+"=%01", r.message(), r.fromPath...)
				if err != nil && strings.Contains(err.Error(), "unknown parameter") {
					t.Errorf("%s: %s is described, and not read", key, p.Value.Name)
				}
			}
		}
	}
	for key := range routes {
		if !described[key] {
			t.Errorf("%s is read, and not described", key)
		}
	}
}

func TestCloseWithoutAServer(t *testing.T) {
	g, err := New(Config{Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
