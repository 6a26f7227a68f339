//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/concordat-tx/concordat/test/chaos/load"
)

// fullKinds: no room on the disk. A node takes no new transactions, or stops if
// it cannot write what it must; a participant stops. Nothing is retried on a
// file whose state is not known (P15).
var fullKinds = []Kind{
	{Name: "full-node", Class: Disk, Hold: hold(500, 2000), strike: full(nodeRole)},
	{Name: "full-participant", Class: Disk, Hold: hold(500, 2000), Cheap: true, strike: full(participantRole)},
}

const noSpace = "no space left on device"

func full(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		said, err := s.logSize(target)
		if err != nil {
			return nil, err
		}
		refused, err := s.refusedForDisk(ctx, target)
		if err != nil {
			return nil, err
		}
		s.mayEnd(target)
		if err := s.disks[target].Fill(); err != nil {
			return nil, err
		}
		return &blow{
			target: target,
			seen: func(ctx context.Context) (string, error) {
				if !s.process(target).Running() {
					if text, err := s.logSince(target, said); err != nil || !strings.Contains(text, noSpace) {
						return "", errors.Join(err, fmt.Errorf("%s ended on a full disk and does not say so: %s", target, text))
					}
					return "it ended and says: " + noSpace, nil
				}
				if s.node(target) == nil {
					s.bulk(ctx, target)
					return "", nil
				}
				now, err := s.refusedForDisk(ctx, target)
				if err != nil || now <= refused {
					return "", nil // it may just be ending
				}
				return fmt.Sprintf("it refused %.0f transactions", now-refused), nil
			},
			heal: func(context.Context) error {
				if err := s.disks[target].Free(); err != nil {
					return err
				}
				return s.startAgain([]string{target})
			},
		}, nil
	}
}

// refusedForDisk counts what a node refused; a participant refuses nothing so.
func (s *Stage) refusedForDisk(ctx context.Context, child string) (float64, error) {
	if s.node(child) == nil {
		return 0, nil
	}
	return s.metric(ctx, child, "concordat_admission_rejected_total", `reason="disk"`)
}

// bulkWithin is how long one more transaction is waited for.
const bulkWithin = 500 * ms

// bulk makes a participant write what it has no room for: a store that has
// found its size writes where it has written before.
func (s *Stage) bulk(ctx context.Context, participant string) {
	ctx, cancel := context.WithTimeout(ctx, bulkWithin)
	defer cancel()
	s.own.Transact(ctx, load.Bulk, load.BulkOps(participant, load.Now()), "")
}
