//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/test/chaos/load"
)

// client is one client process and its journal.
type client struct {
	process *local.Process
	journal string
}

// StartClients starts the load.
func (s *Stage) StartClients() error {
	for i := range clients {
		s.clients = append(s.clients, nil)
		if err := s.startClient(i); err != nil {
			return err
		}
	}
	return nil
}

// startClient starts a new client in a place: another name, another journal.
func (s *Stage) startClient(i int) error {
	s.made++
	name := fmt.Sprintf("c%d", s.made)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := &client{journal: filepath.Join(s.dir, name+".journal")}
	env, err := load.Environment(load.Config{
		Name: name, Nodes: s.cluster.Addresses(), Participants: s.names, Journal: c.journal, Workers: workersEach, Budget: budget,
		Seed: s.seed + uint64(s.made), Number: s.made, Start: s.start,
	})
	if err != nil {
		return err
	}
	c.process = local.NewProcess(name, self, s.dir, nil, []string{env})
	s.clients[i] = c
	return c.process.Start()
}

// StopClients ends the load; calls under way are left unknown.
func (s *Stage) StopClients() error {
	var errs []error
	for _, c := range s.clients {
		if err := c.process.Stop(stopGrace); err != nil {
			said, _ := os.ReadFile(c.process.Log) // it is only shown
			errs = append(errs, fmt.Errorf("%s: %w: %s", c.process.Name, err, said))
		}
	}
	return errors.Join(errs...)
}

// Journals are those of all clients that there were, the runner's among them.
func (s *Stage) Journals() ([]string, error) { return filepath.Glob(filepath.Join(s.dir, "*.journal")) }
