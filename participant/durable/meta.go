package durable

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

func (p *Pages) incarnation() (string, error) {
	b, err := p.Get(bucketMeta, keyIncarnation)
	if err != nil {
		return "", err
	}
	if b == nil {
		return "", p.Corrupt(bucketMeta, keyIncarnation, "the record is missing")
	}
	d := NewDecoder(b)
	incarnation := d.Text()
	if err := d.End(); err != nil {
		return "", p.Corrupt(bucketMeta, keyIncarnation, err.Error())
	}
	return incarnation, nil
}

func encodeIncarnation(incarnation string) []byte {
	e := NewEncoder()
	e.Text(incarnation)
	return e.b
}

// Binding is the fence; zero until the first Bind.
func (p *Pages) Binding() (participant.Binding, error) {
	b, err := p.Get(bucketMeta, keyBinding)
	if err != nil || b == nil {
		return participant.Binding{}, err
	}
	binding, err := decodeBinding(b)
	if err != nil {
		return participant.Binding{}, p.Corrupt(bucketMeta, keyBinding, err.Error())
	}
	return binding, nil
}

func (p *Pages) putBinding(b participant.Binding) error {
	return p.Put(bucketMeta, keyBinding, encodeBinding(b))
}

func encodeBinding(b participant.Binding) []byte {
	e := NewEncoder()
	e.Text(b.ClusterID)
	e.Uint(uint64(b.Generation))
	e.Uint(b.Term)
	e.Attempt(b.Floor)
	return e.b
}

func decodeBinding(b []byte) (participant.Binding, error) {
	d := NewDecoder(b)
	binding := participant.Binding{ClusterID: d.Text()}
	generation := d.Uint()
	if generation > 1<<32-1 {
		d.bad = true
	}
	binding.Generation, binding.Term, binding.Floor = uint32(generation), d.Uint(), d.Attempt()
	if err := d.End(); err != nil {
		return participant.Binding{}, fmt.Errorf("binding: %w", err)
	}
	return binding, nil
}
