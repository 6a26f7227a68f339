package node

import (
	"sync"

	"github.com/concordat-tx/concordat/rpc"
)

// peers keeps one connection to each other node, made on first use.
type peers struct {
	dial func(address string) (*rpc.Conn, error)

	mu    sync.Mutex
	conns map[string]*rpc.Conn
}

func (p *peers) get(address string) (*rpc.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	c, err := p.dial(address)
	if err != nil {
		return nil, err
	}
	if p.conns == nil {
		p.conns = map[string]*rpc.Conn{}
	}
	p.conns[address] = c
	return c, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		closeConn(c)
	}
	p.conns = nil
}
