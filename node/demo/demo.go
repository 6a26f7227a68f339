package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
)

// The participants of every booking.
const (
	seats    = "seats"
	payments = "payments"
	profiles = "profiles"
)

var participants = []string{seats, payments, profiles}

const (
	nodes = 3
	// startTimeout bounds the start of all processes: a slow disk, a cold binary.
	startTimeout = time.Minute
	// killSpacing is the least load for each part between two kills: time to
	// fail over, to come back and to catch up.
	killSpacing = 2 * time.Second
)

// Config says what to run.
type Config struct {
	// Binary is the concordat program.
	Binary string
	// Dir takes all data and logs: a new or empty directory that stays. Empty:
	// a temporary one, which Close removes.
	Dir string
	// Clients book at the same moment, 1 to 256.
	Clients int
	// Duration of the load, at least 2 s for each part before, between and after kills.
	Duration time.Duration
	// Kills of the leader, spread over the load.
	Kills int
	// Falsify removes one booking's marker from seats after the load, in a
	// transaction of its own: a test of the audit, which must name the booking.
	Falsify bool
	// Screen shows what happens while it happens; Colour says that it takes ANSI colours.
	Screen io.Writer
	Colour bool
}

// Check names the first field that makes no sense; its error is a *fsm.FieldError.
func (c *Config) Check() error {
	field := func(name, limit, format string, got any) error {
		return &fsm.FieldError{Field: name, Limit: limit, Got: fmt.Sprintf(format, got)}
	}
	switch {
	case c.Clients < 1 || c.Clients > 256:
		return field("--clients", "1 to 256", "%d", c.Clients)
	case c.Kills < 0:
		return field("--kills", "at least 0", "%d", c.Kills)
	case c.Duration < killSpacing || c.Duration > time.Hour:
		return field("--duration", "2s to 1h", "%s", c.Duration)
	case c.Duration/time.Duration(c.Kills+1) < killSpacing:
		return field("--kills", fmt.Sprintf("at most %d in a --duration of %s", c.Duration/killSpacing-1, c.Duration), "%d", c.Kills)
	}
	return nil
}

// Demo is one running demo.
type Demo struct {
	cfg       Config
	dir       string
	temporary bool
	screen    *screen
	cluster   *local.Cluster
	client    *rpc.Client
	metrics   *scraper
}

// Start runs the processes and waits until a leader serves. The caller calls
// Close; after an error everything is ended already.
func Start(ctx context.Context, cfg Config) (*Demo, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	d := &Demo{cfg: cfg, screen: newScreen(cfg.Screen, cfg.Colour), metrics: newScraper()}
	if err := d.makeDir(); err != nil {
		return nil, err
	}
	d.screen.title("Concordat demo: %d nodes, %d participants, %d clients, %s of load, %s",
		nodes, len(participants), cfg.Clients, cfg.Duration, counted(cfg.Kills, "kill of the leader", "kills of the leader"))
	d.screen.line("data and logs in %s%s", d.dir, map[bool]string{true: " (removed at the end)"}[d.temporary])
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the cluster: %w", err), d.Close())
	}
	return d, nil
}

func (d *Demo) makeDir() (err error) {
	if d.cfg.Dir == "" {
		d.temporary = true
		if d.dir, err = os.MkdirTemp("", "concordat-demo-"); err != nil {
			return fmt.Errorf("make a temporary directory (or name one with --dir): %w", err)
		}
		return nil
	}
	if d.dir, err = filepath.Abs(d.cfg.Dir); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("--dir: %s is not empty; name a new directory", d.dir)
	}
	return nil
}

func (d *Demo) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	d.cluster, err = local.Start(ctx, local.Config{Binary: d.cfg.Binary, Dir: d.dir, Nodes: nodes, Participants: participants})
	if err != nil {
		return err
	}
	if d.client, err = d.cluster.Client(); err != nil {
		return err
	}
	leader, err := d.cluster.AwaitLeader(ctx)
	if err != nil {
		return err
	}
	st, err := d.client.Status(ctx, leader.RPC)
	if err != nil {
		return err
	}
	for _, p := range d.processes() {
		d.screen.line("  %-9s pid %-8d %s", p.Name, p.PID, p.Address)
	}
	d.screen.event("up", "%s leads in term %d", leader.ID, st.GetTerm())
	return nil
}

// Process is one child.
type Process struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
}

// processes lists the children as they are now.
func (d *Demo) processes() []Process {
	var list []Process
	for _, n := range d.cluster.Nodes {
		list = append(list, Process{n.ID, n.PID(), n.RPC})
	}
	for _, name := range participants {
		p := d.cluster.Participants[name]
		list = append(list, Process{name, p.PID(), p.Endpoint})
	}
	return list
}

// Spare makes Close leave the data where they are.
func (d *Demo) Spare() {
	if d.temporary {
		d.temporary = false
		d.screen.line("data and logs are kept in %s", d.dir)
	}
}

// Close ends every child and removes a temporary directory.
func (d *Demo) Close() error {
	var errs []error
	if d.client != nil {
		errs = append(errs, d.client.Close())
	}
	d.metrics.close()
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close())
	}
	if d.temporary {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
