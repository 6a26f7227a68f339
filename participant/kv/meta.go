package kv

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/concordat-tx/concordat/participant"
)

// Keys of the meta bucket.
var (
	keyIncarnation = []byte("incarnation")
	keyBinding     = []byte("binding")
)

// newIncarnation is 16 random bytes in hex.
func newIncarnation() string {
	var b [16]byte
	// crypto/rand never fails: it ends the process instead.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (p *pages) incarnation() (string, error) {
	b, err := p.get(bucketMeta, keyIncarnation)
	if err != nil {
		return "", err
	}
	if b == nil {
		return "", p.corrupt(bucketMeta, keyIncarnation, "the record is missing")
	}
	d := newDecoder(b)
	incarnation := d.text()
	if err := d.end(); err != nil {
		return "", p.corrupt(bucketMeta, keyIncarnation, err.Error())
	}
	return incarnation, nil
}

func (p *pages) putIncarnation(incarnation string) error {
	e := newEncoder()
	e.text(incarnation)
	return p.put(bucketMeta, keyIncarnation, e.b)
}

// binding is the fence; zero until the first Bind.
func (p *pages) binding() (participant.Binding, error) {
	b, err := p.get(bucketMeta, keyBinding)
	if err != nil || b == nil {
		return participant.Binding{}, err
	}
	binding, err := decodeBinding(b)
	if err != nil {
		return participant.Binding{}, p.corrupt(bucketMeta, keyBinding, err.Error())
	}
	return binding, nil
}

func (p *pages) putBinding(b participant.Binding) error {
	return p.put(bucketMeta, keyBinding, encodeBinding(b))
}

func encodeBinding(b participant.Binding) []byte {
	e := newEncoder()
	e.text(b.ClusterID)
	e.uint(uint64(b.Generation))
	e.uint(b.Term)
	e.attempt(b.Floor)
	return e.b
}

func decodeBinding(b []byte) (participant.Binding, error) {
	d := newDecoder(b)
	binding := participant.Binding{ClusterID: d.text()}
	generation := d.uint()
	if generation > 1<<32-1 {
		d.bad = true
	}
	binding.Generation, binding.Term, binding.Floor = uint32(generation), d.uint(), d.attempt()
	if err := d.end(); err != nil {
		return participant.Binding{}, fmt.Errorf("binding: %w", err)
	}
	return binding, nil
}
