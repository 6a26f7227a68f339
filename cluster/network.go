package cluster

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Network opens the connections of Raft's traffic: a pair, so that both ends
// speak the same way.
type Network struct {
	Listen func(address string) (net.Listener, error)
	Dial   func(ctx context.Context, address string) (net.Conn, error)
}

// userTimeout is how long sent bytes may stay unacknowledged before the kernel
// gives a connection up. Without it a connection that was cut keeps Raft
// waiting on retransmission long after the network has healed.
const userTimeout = 2 * time.Second

// keepAlive finds dead peers on connections that only receive.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}

// TCP is plain TCP.
func TCP() Network {
	return Network{
		Listen: func(address string) (net.Listener, error) {
			ln, err := net.Listen("tcp", address)
			if err != nil {
				return nil, fmt.Errorf("listen for Raft: %w", err)
			}
			return ln, nil
		},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err //nolint:wrapcheck // it names the operation and the address
			}
			return conn, nil
		},
	}
}

// tune sets the time limits on a TCP connection and leaves others alone.
func tune(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tcp.SetKeepAliveConfig(keepAlive); err != nil {
		return fmt.Errorf("set keepalive: %w", err)
	}
	return setUserTimeout(tcp, userTimeout)
}
