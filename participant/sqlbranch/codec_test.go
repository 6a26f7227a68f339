package sqlbranch

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/concordat-tx/concordat/participant"
)

func TestRowsReadBack(t *testing.T) {
	e := participant.Entry{Max: refOf(5, 1).Attempt, Committed: []participant.Ref{refOf(1, 1), refOf(3, 2)}, Refused: []participant.Ref{refOf(5, 1)}}
	got, err := DecodeEntry("t", EncodeEntry(e))
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("entry: %+v, %v", got, err)
	}
	o := NewOverlay(refOf(6, 1), nil).TakeOver(refOf(7, 1).Attempt).Refuse(refOf(4, 2)).Forget(refOf(4, 1).Attempt, []participant.Ref{refOf(1, 1), refOf(5, 1)}).Undo()
	back, err := DecodeOverlay("t", o.Encode())
	if err != nil || !reflect.DeepEqual(*back, o) {
		t.Errorf("overlay: %+v, %v; want %+v", back, err, o)
	}
	if len(o.Forgotten) != 1 {
		t.Errorf("forgotten: %v", o.Forgotten)
	}
	if e, err := DecodeEntry("t", nil); err != nil || !e.IsZero() {
		t.Errorf("no entry: %+v, %v", e, err)
	}
	if o, err := DecodeOverlay("t", nil); err != nil || o != nil {
		t.Errorf("no overlay: %+v, %v", o, err)
	}
}

func FuzzRows(f *testing.F) {
	f.Add(EncodeEntry(AfterCommit(participant.Entry{}, refOf(1, 1))))
	f.Add(NewOverlay(refOf(1, 1), nil).Refuse(refOf(2, 2)).Encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		e, err := DecodeEntry("t", body)
		if err == nil && !bytes.Equal(EncodeEntry(e), body) {
			t.Errorf("entry %x is written back as %x", body, EncodeEntry(e))
		}
		o, err2 := DecodeOverlay("t", body)
		if err2 == nil && !bytes.Equal(o.Encode(), body) {
			t.Errorf("overlay %x is written back as %x", body, o.Encode())
		}
		for _, err := range []error{err, err2} {
			if err != nil && !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
		}
	})
}
