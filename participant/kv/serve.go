package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Limits of reads.
const (
	maxReadKeys  = 1000
	maxScanLimit = 10000
	defaultScan  = 1000
	// maxAnswerBytes keeps an answer under gRPC's default of 4 MiB.
	maxAnswerBytes = 3 << 20
)

// Read reads keys at one point in time. Unless stale is set it sees every
// acknowledged commit and no value that may still be rolled back: it waits
// for the writers of its keys until shortly before the deadline of ctx, then
// fails with UNAVAILABLE (LOCKED), which names the transaction.
func (s *Store) Read(ctx context.Context, request *pb.ReadRequest) (*pb.ReadResponse, error) {
	if err := s.meant(request.GetParticipant()); err != nil {
		return nil, err
	}
	keys := request.GetKeys()
	if len(keys) == 0 || len(keys) > maxReadKeys {
		return nil, rpc.FieldErrorf("keys", fmt.Sprintf("1 to %d keys", maxReadKeys), "%d", len(keys))
	}
	for i, key := range keys {
		if err := kvop.CheckKey(fmt.Sprintf("keys[%d]", i), key); err != nil {
			return nil, rpc.FromError(err)
		}
	}
	response := &pb.ReadResponse{Items: make([]*pb.KeyValue, 0, len(keys))}
	read := func(p pages) error {
		size := 0
		for _, key := range keys {
			v, exists, err := p.value(key)
			if err != nil {
				return err
			}
			item := keyValue(key, v, exists)
			if size += len(key) + len(item.ValueJson); size > maxAnswerBytes {
				return rpc.FieldErrorf("keys", fmt.Sprintf("values of at most %d bytes together", maxAnswerBytes), "more: ask for fewer keys")
			}
			response.Items = append(response.Items, item)
		}
		return nil
	}
	var err error
	if request.GetStale() {
		err = s.view(read)
	} else {
		err = s.readLocked(ctx, keys, read)
	}
	if err != nil {
		return nil, readError(ctx, err)
	}
	return response, nil
}

func (s *Store) readLocked(ctx context.Context, keys []string, read func(pages) error) error {
	if err := s.file.Failure(); err != nil {
		return err
	}
	waiting, cancel := beforeDeadline(ctx)
	defer cancel()
	tx, err := s.locks.snapshot(waiting, keys)
	if err != nil {
		return err
	}
	return s.file.ViewIn(tx, func(p *durable.Pages) error { return read(pages{p}) })
}

// meant refuses a read of another participant's data: an endpoint may be wrong
// in the registry, or lead elsewhere than it did (P14).
func (s *Store) meant(participant string) error {
	if own := s.options.Name; participant != "" && own != "" && participant != own && !mutant.On("any-name") {
		return rpc.Errorf(rpc.ReasonWrongParticipant,
			"the read is for participant %q, this is %q: mend the endpoint in the registry", participant, own)
	}
	return nil
}

// beforeDeadline ends a little earlier than ctx: an answer that names the
// transaction in the way is of use only if it arrives before the caller has
// given up.
func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(time.Until(deadline)/10, 50*time.Millisecond)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

func readError(ctx context.Context, err error) error {
	var locked *lockedError
	switch {
	case errors.As(err, &locked) && errors.Is(ctx.Err(), context.Canceled):
		return rpc.FromError(ctx.Err())
	case errors.As(err, &locked):
		e := rpc.Errorf(rpc.ReasonLocked, "%w: try again, or read stale", err)
		e.Txn = locked.holder
		return e
	case errors.Is(err, ErrClosed):
		return rpc.Errorf(rpc.ReasonShuttingDown, "%w", err)
	}
	return rpc.FromError(err)
}

// Scan lists committed keys in order. It does not wait for anyone, so several
// pages are not one point in time while transactions run; Locks says whether any do.
func (s *Store) Scan(_ context.Context, request *pb.ScanRequest) (*pb.ScanResponse, error) {
	if err := s.meant(request.GetParticipant()); err != nil {
		return nil, err
	}
	limit := int(request.GetLimit())
	if limit > maxScanLimit {
		return nil, rpc.FieldErrorf("limit", fmt.Sprintf("0 to %d keys", maxScanLimit), "%d", limit)
	}
	if limit == 0 {
		limit = defaultScan
	}
	for field, text := range map[string]string{"prefix": request.GetPrefix(), "after": request.GetAfter()} {
		if len(text) > kvop.MaxKeyBytes {
			return nil, rpc.FieldErrorf(field, fmt.Sprintf("0 to %d bytes", kvop.MaxKeyBytes), "%d bytes", len(text))
		}
	}
	// Counted before the snapshot: with no lock held, what it shows is whole.
	response := &pb.ScanResponse{Locks: uint32(s.Locks())}
	prefix := request.GetPrefix()
	err := s.view(func(p pages) error {
		cursor := p.Cursor(bucketData)
		from := prefix
		if after := request.GetAfter(); after >= prefix && after != "" {
			from = after + "\x00"
		}
		size := 0
		for key, sealed := cursor.Seek([]byte(from)); key != nil && strings.HasPrefix(string(key), prefix); key, sealed = cursor.Next() {
			if len(response.Items) == limit || size > maxAnswerBytes {
				response.More = true
				return nil
			}
			v, err := p.openValue(key, sealed)
			if err != nil {
				return err
			}
			item := keyValue(string(key), v, true)
			response.Items = append(response.Items, item)
			size += len(key) + len(item.ValueJson)
		}
		return nil
	})
	if err != nil {
		return nil, readError(context.Background(), err)
	}
	return response, nil
}

func keyValue(key string, v kvop.Value, exists bool) *pb.KeyValue {
	item := &pb.KeyValue{Key: key, Exists: exists}
	if exists {
		item.ValueJson = v.AppendJSON(nil)
	}
	return item
}
