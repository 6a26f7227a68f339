package durable

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The layout of bbolt's Pages: a header of 16 bytes (id, flags, count,
// overflow), then count elements of 16 bytes that say where keys and values
// stand, counted from the element itself.
const (
	pageHeader   = 16
	pageElement  = 16
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagBucket   = 0x01 // of a leaf's element
	bucketHeader = 16   // root page and sequence; root 0: the page follows inline
)

// tree walks bbolt's Pages as they are in the file, and checks what bbolt
// takes for granted: that a page is the one it was linked as, linked once, and
// points to nothing outside of itself. bbolt answers such damage with a fault, a panic in a
// goroutine of its own, or a count to four billion.
type tree struct {
	file     io.ReaderAt
	path     string
	pageSize uint64
	Pages    uint64 // Pages in use: the next free page id
	seen     map[uint64]bool
}

func (t *tree) damaged(page uint64, format string, args ...any) error {
	return &CorruptError{File: t.path, Reason: fmt.Sprintf("page %d: ", page) + fmt.Sprintf(format, args...)}
}

// walk checks the page id and everything below it.
func (t *tree) walk(id uint64) error {
	page, err := t.read(id)
	if err != nil {
		return err
	}
	return t.elements(id, page)
}

// read is a whole page with its overflow.
func (t *tree) read(id uint64) ([]byte, error) {
	if id < 2 || id >= t.Pages {
		return nil, t.damaged(id, "linked, but the file uses Pages 2 to %d", t.Pages-1)
	}
	header := make([]byte, pageHeader)
	if _, err := t.file.ReadAt(header, int64(id*t.pageSize)); err != nil {
		return nil, t.damaged(id, "%v", err)
	}
	if got := binary.NativeEndian.Uint64(header); got != id {
		return nil, t.damaged(id, "calls itself page %d", got)
	}
	last := id + uint64(binary.NativeEndian.Uint32(header[12:]))
	if last >= t.Pages {
		return nil, t.damaged(id, "goes on to page %d, but the file uses %d", last, t.Pages)
	}
	for n := id; n <= last; n++ {
		if t.seen[n] {
			return nil, t.damaged(n, "is linked twice")
		}
		t.seen[n] = true
	}
	page := make([]byte, (last-id+1)*t.pageSize)
	if _, err := t.file.ReadAt(page, int64(id*t.pageSize)); err != nil {
		return nil, t.damaged(id, "%v", err)
	}
	return page, nil
}

// elements checks the elements of a page, which may be inline in another.
func (t *tree) elements(id uint64, page []byte) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), uint64(binary.NativeEndian.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return t.damaged(id, "has the unknown type %#x", flags)
	}
	if pageHeader+count*pageElement > uint64(len(page)) {
		return t.damaged(id, "has %d elements, more than fit", count)
	}
	for i := range count {
		at := pageHeader + i*pageElement
		e := page[at : at+pageElement]
		if flags == flagBranch {
			end := at + uint64(binary.NativeEndian.Uint32(e)) + uint64(binary.NativeEndian.Uint32(e[4:]))
			if end > uint64(len(page)) {
				return t.damaged(id, "element %d points outside", i)
			}
			if err := t.walk(binary.NativeEndian.Uint64(e[8:])); err != nil {
				return err
			}
			continue
		}
		value := at + uint64(binary.NativeEndian.Uint32(e[4:])) + uint64(binary.NativeEndian.Uint32(e[8:]))
		end := value + uint64(binary.NativeEndian.Uint32(e[12:]))
		if end > uint64(len(page)) {
			return t.damaged(id, "element %d points outside", i)
		}
		if binary.NativeEndian.Uint32(e)&flagBucket != 0 {
			if err := t.bucket(id, page[value:end]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks the bucket that a leaf's value is.
func (t *tree) bucket(id uint64, value []byte) error {
	if len(value) < bucketHeader {
		return t.damaged(id, "has a bucket of %d bytes", len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return t.walk(root)
	}
	if len(value) < bucketHeader+pageHeader {
		return t.damaged(id, "has an inline bucket of %d bytes", len(value))
	}
	inline := value[bucketHeader:]
	if binary.NativeEndian.Uint64(inline) != 0 || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf || binary.NativeEndian.Uint32(inline[12:]) != 0 {
		return t.damaged(id, "has an inline bucket that is no single leaf")
	}
	return t.elements(id, inline)
}
