package floor

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
)

// idOf is how every request begins.
func idOf(in []byte) (id, error) {
	if len(in) < idBytes {
		return id{}, fmt.Errorf("a request of %d bytes, at least %d", len(in), idBytes)
	}
	return id(in[:idBytes]), nil
}

// submit is one transaction, answered at the decision. Phase two goes on behind it.
func (n *node) submit(ctx context.Context, in []byte) ([]byte, error) {
	of, err := idOf(in)
	if err != nil {
		return nil, err
	}
	n.room <- struct{}{}
	n.unfinished.Add(1)
	over := func() {
		n.unfinished.Add(-1)
		<-n.room
	}
	err = n.log.propose(command(kindBegin, CommandBytes, of))
	if err == nil {
		err = n.askAll(ctx, prepare, of)
	}
	if err == nil {
		err = n.log.propose(command(kindDecide, decideBytes, of))
	}
	if err != nil {
		over()
		return nil, err
	}
	go func() {
		defer over()
		err := n.askAll(context.Background(), commit, of)
		if err == nil {
			err = n.log.propose(command(kindFinish, finishBytes, of))
		}
		if err != nil {
			log.Printf("transaction %x is left behind: %v", of, err)
		}
	}()
	return nil, nil
}

// askAll asks every participant at the same time.
func (n *node) askAll(ctx context.Context, what string, of id) error {
	errs := make([]error, len(n.participants))
	var wg sync.WaitGroup
	ask := func(i int) { _, errs[i] = call(ctx, n.participants[i], what, of[:]) }
	for i := 1; i < len(errs); i++ {
		wg.Go(func() { ask(i) })
	}
	if len(errs) > 0 {
		ask(0)
	}
	wg.Wait()
	return errors.Join(errs...)
}
