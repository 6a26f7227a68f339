package steps

import (
	"slices"
	"strconv"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// disk is what is durable at a participant, as in the file of a kv.Store:
// journal, data and binding, changed together by one write.
type disk struct {
	journal map[string]*record
	order   []*record // the same, in an order that depends on the run alone
	binding participant.Binding
	// data are lists: every transaction that writes a key appends itself.
	data map[uint16][]fsm.Attempt
}

// record is what the journal keeps of one id.
type record struct {
	id    string
	entry participant.Entry
	keys  []keyUse // of the held branch
}

// keyUse is a key that a branch locked, and how long its list was then.
type keyUse struct {
	key   uint16
	write bool
	seen  int
}

func (k keyUse) name() string { return keyNames[k.key] }

var keyNames = func() (names [1024]string) {
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	return names
}()

func (r *record) ref() participant.Ref {
	return participant.Ref{ID: r.id, Attempt: r.entry.Held.Attempt, Digest: r.entry.Held.Digest}
}

// entry is what is remembered of an id.
func (d *disk) entry(id string) participant.Entry {
	if r := d.journal[id]; r != nil {
		return r.entry
	}
	return participant.Entry{}
}

// put stores an entry, or drops the id if there is nothing left to remember.
func (d *disk) put(id string, e participant.Entry, keys []keyUse) {
	r := d.journal[id]
	switch {
	case r == nil && e.IsZero():
		return
	case r == nil:
		r = &record{id: id}
		d.journal[id] = r
		d.order = append(d.order, r)
	case e.IsZero():
		delete(d.journal, id)
		d.order = slices.DeleteFunc(d.order, func(o *record) bool { return o == r })
		return
	}
	r.entry, r.keys = e, keys
	if e.Held == nil {
		r.keys = nil
	}
}

func (d *disk) keys(id string) []keyUse {
	if r := d.journal[id]; r != nil {
		return r.keys
	}
	return nil
}

// bind stores a binding; a floor that Forget has raised meanwhile stays.
func (d *disk) bind(b participant.Binding) {
	if b.Floor.Less(d.binding.Floor) {
		b.Floor = d.binding.Floor
	}
	d.binding = b
}

// heldRecords are the prepared branches, the oldest attempt first.
func (d *disk) heldRecords() []*record {
	var held []*record
	for _, r := range d.order {
		if r.entry.Held != nil {
			held = append(held, r)
		}
	}
	slices.SortFunc(held, func(a, b *record) int { return a.entry.Held.Attempt.Compare(b.entry.Held.Attempt) })
	return held
}

// holds reports whether this very branch is held.
func (d *disk) holds(ref participant.Ref) bool {
	r := d.journal[ref.ID]
	return r != nil && r.entry.Held != nil && r.ref() == ref
}

// finished lists up to limit references that could be forgotten.
func (d *disk) finished(limit int) []participant.Ref {
	var refs []participant.Ref
	for _, r := range d.order {
		if refs = append(refs, r.entry.Finished()...); len(refs) >= limit {
			return refs[:limit]
		}
	}
	return refs
}

// forget drops finished references below floor and raises the floor, in one write.
func (d *disk) forget(floor rpc.Attempt, refs []participant.Ref) {
	for _, ref := range refs {
		if r := d.journal[ref.ID]; r != nil {
			d.put(ref.ID, r.entry.Forget(floor, refs), r.keys)
		}
	}
	if d.binding.Floor.Less(floor) {
		d.binding.Floor = floor
	}
}

// write is one change of the disk: apply is judged and made in the batch's
// transaction, synced runs when it is durable.
type write struct {
	apply, synced func()
}

// write queues a change. What is queued together is durable together.
func (p *party) write(x write) {
	p.batch = append(p.batch, x)
	p.planSync()
}

func (p *party) planSync() {
	if p.syncing {
		return
	}
	p.syncing = true
	life := p.life
	d := p.w.between(100*time.Microsecond, time.Millisecond)
	if p.w.chance(100) {
		d = p.w.between(time.Millisecond, 100*time.Millisecond)
	}
	p.w.after(d, Synced, p.name, "", func() bool {
		if p.life != life {
			return false
		}
		p.syncing = false
		if p.w.chance(100) {
			p.w.happened(PartyCrash)
			p.w.say("crashes before a sync")
			p.crash()
			p.restartLater()
			return true
		}
		batch := p.batch
		p.batch = nil
		for _, x := range batch {
			x.apply()
		}
		if p.w.chance(100) { // durable, and the process ends before it tells
			p.w.happened(PartyCrash)
			p.w.say("crashes after a sync")
			p.crash()
			p.restartLater()
			return true
		}
		for _, x := range batch {
			x.synced()
		}
		if len(p.batch) > 0 {
			p.planSync()
		}
		return true
	})
}

func (p *party) restartLater() {
	life := p.life
	p.w.after(p.w.between(time.Millisecond, 400*time.Millisecond), Mends, p.name, "", func() bool {
		if p.up || p.life != life {
			return false
		}
		p.w.say("starts again")
		p.start()
		return true
	})
}
