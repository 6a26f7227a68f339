package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// listenPoll is how often an address is dialled until somebody listens.
	listenPoll = time.Millisecond
	// preparedPoll is how often a participant is asked what it holds.
	preparedPoll = 2 * time.Millisecond
)

// describe asks a participant who it is and what it holds.
func describe(ctx context.Context, conn *rpc.Conn) (*pb.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return pb.NewParticipantClient(conn).Describe(ctx, &pb.DescribeRequest{})
}

// prepared is how many branches the participant at endpoint holds prepared.
func prepared(ctx context.Context, endpoint string) (int, error) {
	conn, err := rpc.Dial(endpoint)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	d, err := describe(ctx, conn)
	return int(d.GetPrepared()), err
}

// listening waits until endpoint takes connections and returns when it did, to
// within listenPoll.
func listening(ctx context.Context, endpoint string) (time.Time, error) {
	err := await(ctx, "the participant listens", readyWithin, listenPoll, func(ctx context.Context) bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return time.Now(), err
}

// settled waits until the participant holds nothing prepared and returns when
// that was seen, and when it answered for the first time.
func settled(ctx context.Context, endpoint string, within time.Duration) (answered, at time.Time, err error) {
	conn, err := rpc.Dial(endpoint)
	if err != nil {
		return answered, at, err
	}
	defer conn.Close()
	last := 0
	err = await(ctx, "nothing is prepared at "+endpoint, within, preparedPoll, func(ctx context.Context) bool {
		d, err := describe(ctx, conn)
		if err != nil {
			return false
		}
		if answered.IsZero() {
			answered = time.Now()
		}
		last = int(d.GetPrepared())
		return last == 0
	})
	if err != nil {
		err = fmt.Errorf("%w (%d prepared when last asked)", err, last)
	}
	return answered, time.Now(), err
}
