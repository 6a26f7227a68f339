package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are given out below those that node/local and test/database take: stands
// start at the same time, and a port that is free may be somebody's already who
// does not listen yet.
const lowestPort, highestPort = 3000, 10_000

var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// addresses are loopback ones where nobody listens, of which each is given once.
func addresses(n int) (found []string, err error) {
	given.Lock()
	defer given.Unlock()
	for range 1000 {
		if len(found) == n {
			return found, nil
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if given.ports[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		given.ports[port], found = true, append(found, address)
	}
	return nil, errors.New("no free ports")
}
