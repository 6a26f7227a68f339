package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/node/local/database"
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
)

// Demo is one running demo.
type Demo struct {
	cfg       Config
	dir       string
	temporary bool
	screen    *screen
	stores    []*store // of the participants over databases
	keepers   keepers
	cluster   *local.Cluster
	client    *rpc.Client
	metrics   *scraper
	hand      *hand
	eyes      *eyes
	prover    *prover // of the load
	view      *view   // nil without a terminal
}

// Start runs the processes and waits until a leader serves. The caller calls
// Close; after an error everything is ended already.
func Start(ctx context.Context, cfg Config) (*Demo, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.defaults()
	if cfg.Databases {
		if err := database.Find(cfg.PostgresBin, cfg.MariaDBBin); err != nil {
			return nil, err
		}
	}
	d := &Demo{cfg: cfg, screen: newScreen(cfg.Screen, cfg.Colour), metrics: newScraper()}
	if err := d.makeDir(); err != nil {
		return nil, err
	}
	d.screen.title("Concordat demo: %d nodes, %d participants, %s", nodes, len(participants), cfg.describe())
	if cfg.Databases {
		d.screen.line("seats are in PostgreSQL, payments in MariaDB, profiles in the embedded KV")
	}
	d.screen.line("data and logs in %s%s", d.dir, map[bool]string{true: " (removed at the end)"}[d.temporary && !cfg.Keep])
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
	if err := d.startStores(ctx); err != nil {
		return err
	}
	d.cluster, err = local.Start(ctx, local.Config{Binary: d.cfg.Binary, Dir: d.dir, Nodes: nodes, Participants: participants,
		Databases: d.databases(), Relayed: d.cfg.relayed()})
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
	if d.eyes, err = newEyes(d.cluster); err != nil {
		return err
	}
	d.hand = newHand(d)
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
	for _, s := range d.stores {
		list = append(list, Process{s.name, s.server.PID(), s.server.Address()})
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
	if d.eyes != nil {
		errs = append(errs, d.eyes.close())
	}
	d.metrics.close()
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close())
	}
	for _, s := range d.stores {
		errs = append(errs, s.close(!d.temporary))
	}
	if d.temporary {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
