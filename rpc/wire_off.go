//go:build !failpoints

package rpc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// The points of messages (see fsm/failpoint) are in another build.

func watched(c credentials.TransportCredentials) credentials.TransportCredentials { return c }

func watchDial() []grpc.DialOption { return nil }

func watchServer() []grpc.ServerOption { return nil }
