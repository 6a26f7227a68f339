//go:build !failpoints

package rpc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// The points of messages (see fsm/failpoint) are in another build.

func watched(c credentials.TransportCredentials) credentials.TransportCredentials { return c }

func watchDial() []grpc.UnaryClientInterceptor { return nil }

func returned(string, bool) {}

func received(string) {}

func watchServer() []grpc.UnaryServerInterceptor { return nil }

func carriedFrom() int64 { return carriedAlone }

func carriesNothing() bool { return false }
