package rpc

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Listen listens on addr, host:port (port 0: any), named by the flag --listen
// in its errors. See ListenAs.
func Listen(addr string, insecure bool) (net.Listener, error) {
	return ListenAs("--listen", addr, insecure)
}

// ListenAs listens on addr, host:port (port 0: any). An address that other
// machines can reach needs insecure, and then a warning is logged to hclog's
// default logger: traffic is neither encrypted nor authenticated. Errors name
// field, the flag or setting that addr comes from.
func ListenAs(field, addr string, insecure bool) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s %q: not a usable host:port: %w", field, addr, err)
	}
	if !tcp.IP.IsLoopback() {
		if !insecure {
			return nil, fmt.Errorf("%s %q: other machines can reach this address and connections are not secured; "+
				"listen on a loopback address such as 127.0.0.1, or accept it with --insecure", field, addr)
		}
		hclog.Default().Warn("listening without TLS on an address that other machines can reach: "+
			"anybody on the network can read and change data", "flag", field, "address", addr)
	}
	l, err := listenSoon(tcp.String())
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %q: the port is in use by another process; stop that process or choose another port: %w",
			field, addr, err)
	}
	return nil, fmt.Errorf("%s %q: cannot listen: %w", field, addr, err)
}

// portPatience is how long a port may be in use. A process that was killed
// ends when the disk lets go of it, and whoever starts it again is faster.
const portPatience = 3 * time.Second

// listenSoon listens as soon as the port is free.
func listenSoon(addr string) (l net.Listener, err error) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(portPatience); ; <-again.C {
		if l, err = net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
	}
}
