package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
)

func validConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.NodeID, cfg.DataDir, cfg.RaftListen = "n1", t.TempDir(), "127.0.0.1:0"
	cfg.Logger = hclog.NewNullLogger()
	cfg.Peers = []Peer{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}}
	return cfg
}

func TestDefaultsAreValid(t *testing.T) {
	cfg := validConfig(t)
	for range 2 {
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
		if err := raft.ValidateConfig(cfg.raftConfig()); err != nil {
			t.Error(err)
		}
		cfg.WideArea()
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, tc := range []struct {
		field  string
		change func(*Config)
	}{
		{"id", func(c *Config) { c.NodeID = "" }},
		{"id", func(c *Config) { c.NodeID = "n 1" }},
		{"data directory", func(c *Config) { c.DataDir = "" }},
		{"raft listen", func(c *Config) { c.RaftListen = "" }},
		{"network", func(c *Config) { c.Network = Network{} }},
		{"wall clock", func(c *Config) { c.Wall = nil }},
		{"logger", func(c *Config) { c.Logger = nil }},
		{"fatal", func(c *Config) { c.Fatal = nil }},
		{"peers", func(c *Config) { c.Peers = nil }},
		{"peers", func(c *Config) { c.Peers = c.Peers[1:] }},
		{"peers", func(c *Config) { c.Peers = append(c.Peers, c.Peers[0]) }},
		{"peers", func(c *Config) { c.Peers[1].Address = c.Peers[0].Address }},
		{"peers", func(c *Config) { c.Peers[1].Address = "no port" }},
		{"peers", func(c *Config) { c.Peers[1].ID = "../../etc" }},
		{"heartbeat", func(c *Config) { c.Heartbeat = 0 }},
		{"election", func(c *Config) { c.Election = c.Heartbeat - 1 }},
		{"lease", func(c *Config) { c.Lease = c.Heartbeat + 1 }},
		{"commit timeout", func(c *Config) { c.CommitTimeout = 0 }},
		{"transport timeout", func(c *Config) { c.TransportTimeout = 0 }},
		{"snapshot interval", func(c *Config) { c.SnapshotInterval = 0 }},
		{"snapshot threshold", func(c *Config) { c.SnapshotThreshold = 0 }},
		{"snapshot commands", func(c *Config) { c.SnapshotCommands = 0 }},
		{"trailing logs", func(c *Config) { c.TrailingLogs = 2*maxInFlight - 1 }},
		{"disk deadline", func(c *Config) { c.DiskDeadline = 0 }},
		{"batch commands", func(c *Config) { c.MaxBatchCommands = 0 }},
		{"batch bytes", func(c *Config) { c.MaxBatchBytes = 1 << 20 }},
		{"queue commands", func(c *Config) { c.QueueCommands = 0 }},
		{"queue bytes", func(c *Config) { c.QueueBytes = 1 }},
		{"lazy commands", func(c *Config) { c.LazyCommands = 0 }},
		{"lazy delay", func(c *Config) { c.LazyDelay = time.Hour }},
	} {
		t.Run(tc.field, func(t *testing.T) {
			cfg := validConfig(t)
			tc.change(&cfg)
			_, err := Open(cfg)
			var field *fsm.FieldError
			if !errors.As(err, &field) || field.Field != tc.field {
				t.Errorf("error %v, should name %q", err, tc.field)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	h := newHub(t)
	cfg := validConfig(t)
	cfg.RaftListen = h.ln.Addr().String()
	_, err := Open(cfg)
	wantError(t, err, "listen for Raft", cfg.RaftListen, "in use")
}
