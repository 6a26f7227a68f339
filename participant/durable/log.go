package durable

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// The log is one file beside the pages, of two halves: each a header, then a record
// for each batch, written and synced before anyone in the batch is answered. When a
// half is full, the other one goes on, and what the full one has is written to the
// pages beside it (beside.go). Then that half is cleared, so that most syncs write
// over blocks that the file already has, which costs the file system no transaction
// of its own.
const (
	logHeader  = 4096      // of a half; no record shares its block
	recordHead = 24        // length, checksum, number, checksum of these, nothing
	recordStep = 8         // where records may begin
	logStep    = 256 << 10 // a half grows by so much, and is cleared by so much
	// logBytes is the length of a half, with its header, if nobody says another. It
	// bounds the memory of an overlay and the time of a checkpoint.
	logBytes = 4 << 20
	logMagic = "cc-log-1"
	logID    = 16
)

// batchLog is the log, open for appending.
type batchLog struct {
	file *os.File
	// clearing is the same file, opened for clear alone: an error of the disk is told
	// to one sync of each descriptor, and a checkpoint's would take that of a batch.
	clearing *os.File
	id       [logID]byte
	length   int64 // of a half
	halves   [2]half
	now      int // the one that is written
	buf      []byte
}

// half is one of the two. Its offsets are those of the file.
type half struct {
	from int64 // of its header
	end  int64 // where the next record goes
	size int64 // so much of it has blocks
}

func newBatchLog(file, clearing *os.File, id [logID]byte, length int64) *batchLog {
	l := &batchLog{file: file, clearing: clearing, id: id, length: length}
	for i := range l.halves {
		from := int64(i) * length
		l.halves[i] = half{from: from, end: from + logHeader}
	}
	return l
}

// logPath is the log of the file at path.
func logPath(path string) string { return path + ".log" }

// mark is what pages say of this log when they have batch seq.
func (l *batchLog) mark(seq uint64) *mark { return &mark{id: l.id, length: l.length, seq: seq} }

// header is what a half begins with. base is a batch that the pages have, with
// all before it: with older pages the log is of no use.
func (l *batchLog) header(base uint64) []byte {
	b := append([]byte(logMagic), l.id[:]...)
	b = binary.BigEndian.AppendUint64(b, base)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// fits reports whether a half begins as that of pages which have batch seq.
func (l *batchLog) fits(all []byte, seq uint64) bool {
	const at = len(logMagic) + logID
	if len(all) < logHeader {
		return false
	}
	base := binary.BigEndian.Uint64(all[at:])
	return bytes.HasPrefix(all, l.header(base)) && base <= seq
}

// createLog makes a log of its own id. It counts once the pages name it, so
// one that was left over is written over.
func (s *File) createLog() (l *batchLog, err error) {
	failpoint.Hit("participant.log.create.before")
	l, err = s.makeLog()
	failpoint.Hit("participant.log.create.after")
	return l, err
}

func (s *File) makeLog() (l *batchLog, err error) {
	var id [logID]byte
	// crypto/rand never fails: it ends the process instead.
	_, _ = rand.Read(id[:])
	file, clearing, err := s.openLog(os.O_CREATE | os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	l = newBatchLog(file, clearing, id, s.options.LogBytes)
	for i := range l.halves {
		err = errors.Join(err, l.begin(l.file, &l.halves[i], 0))
	}
	if err == nil {
		err = l.grow(l.file, &l.halves[0], min(logStep, l.length))
	}
	if err == nil && !s.db.NoSync {
		err = errors.Join(l.file.Sync(), syncDirectory(filepath.Dir(s.path)))
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// openLog opens the log, for its batches and for clear.
func (s *File) openLog(flag int) (file, clearing *os.File, err error) {
	open := s.options.OpenFile
	if open == nil {
		open = os.OpenFile
	}
	if file, err = open(logPath(s.path), os.O_RDWR|flag, 0o600); err != nil {
		return nil, nil, err
	}
	if clearing, err = open(logPath(s.path), os.O_RDWR, 0o600); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, clearing, nil
}

func (l *batchLog) close() error { return errors.Join(l.file.Close(), l.clearing.Close()) }

// grow makes a half so long, with zeros that have their blocks.
func (l *batchLog) grow(file *os.File, h *half, size int64) error {
	if _, err := file.WriteAt(make([]byte, size-h.size), h.from+h.size); err != nil {
		return err
	}
	h.size = size
	return nil
}

// begin writes the header of a half.
func (l *batchLog) begin(file *os.File, h *half, base uint64) error {
	if h.size < logHeader {
		if err := l.grow(file, h, logHeader); err != nil {
			return err
		}
	}
	_, err := file.WriteAt(l.header(base), h.from)
	return err
}

// room reports whether what was encoded fits in the half that is written.
func (l *batchLog) room() bool {
	h := &l.halves[l.now]
	return h.end+int64(len(l.buf)) <= h.from+l.length
}

// turn has the other half, which is clear, written from now on, and returns the one before.
func (l *batchLog) turn() (full *half) {
	full = &l.halves[l.now]
	l.now = 1 - l.now
	return full
}

// encode makes the record of a batch; false if not even a clear half has room for it.
func (l *batchLog) encode(seq uint64, counts []census, list []change) bool {
	e := Encoder{b: append(l.buf[:0], make([]byte, recordHead)...)}
	e.Count(len(counts))
	for _, c := range counts {
		e.Uint(c.count)
		e.Uint(c.sum)
	}
	e.Count(len(list))
	for _, c := range list {
		e.Text(c.bucket)
		e.Text(c.key)
		e.Bytes(c.sealed) // never empty, unless deleted
		if int64(len(e.b)) > l.length-logHeader {
			return false
		}
	}
	for len(e.b)%recordStep != 0 {
		e.b = append(e.b, 0)
	}
	l.buf = e.b
	if int64(len(l.buf)) > l.length-logHeader {
		return false
	}
	binary.BigEndian.PutUint32(l.buf, uint32(len(l.buf)))
	binary.BigEndian.PutUint64(l.buf[8:], seq)
	binary.BigEndian.PutUint32(l.buf[4:], l.checksum(l.buf))
	binary.BigEndian.PutUint32(l.buf[16:], l.headChecksum(l.buf))
	return true
}

// checksum covers the whole record but itself, and whose it is.
func (l *batchLog) checksum(record []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(l.id[:], castagnoli), castagnoli, record[:4])
	sum = crc32.Update(sum, castagnoli, record[8:16])
	return crc32.Update(sum, castagnoli, record[20:])
}

// headChecksum is for a record that is not whole: how long it should be.
func (l *batchLog) headChecksum(record []byte) uint32 {
	return crc32.Update(crc32.Checksum(l.id[:], castagnoli), castagnoli, record[:16])
}

// write makes the record that was encoded durable.
func (l *batchLog) write(sync bool) error {
	h := &l.halves[l.now]
	if need := h.end - h.from + int64(len(l.buf)); need > h.size {
		if err := l.grow(l.file, h, min((need+logStep-1)/logStep*logStep, l.length)); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(l.buf, h.end); err != nil {
		return err
	}
	if sync {
		if err := syncData(l.file); err != nil {
			return err
		}
	}
	h.end += int64(len(l.buf))
	return nil
}

// part is what of the file a half is.
func (l *batchLog) part(all []byte, i int) []byte {
	from := min(l.halves[i].from, int64(len(all)))
	return all[from:min(from+l.length, int64(len(all)))]
}

// record is one that was found in the log.
type record struct {
	seq  uint64
	body []byte
}

// records are the whole ones from the beginning of a half on, and where they end.
func (l *batchLog) records(in []byte) (list []record, end int) {
	for end = logHeader; ; {
		seq, length := l.recordAt(in, end)
		if length == 0 {
			return list, end
		}
		list = append(list, record{seq, in[end+recordHead : end+length]})
		end += length
	}
}

// recordAt is the number and the length of a whole record; no length: there is none.
func (l *batchLog) recordAt(all []byte, offset int) (seq uint64, length int) {
	n := l.lengthAt(all, offset)
	if n == 0 || offset+n > len(all) {
		return 0, 0
	}
	b := all[offset : offset+n]
	if binary.BigEndian.Uint32(b[4:]) != l.checksum(b) {
		return 0, 0
	}
	return binary.BigEndian.Uint64(b[8:]), n
}

// lengthAt is the length of a record, whole or not, whose head is; else 0.
func (l *batchLog) lengthAt(all []byte, offset int) int {
	if len(all)-offset < recordHead {
		return 0
	}
	b := all[offset : offset+recordHead]
	n := binary.BigEndian.Uint32(b)
	if n < recordHead || int64(n) > l.length-logHeader || binary.BigEndian.Uint32(b[16:]) != l.headChecksum(b) {
		return 0
	}
	return int(n)
}

// sector is what a disk writes whole, or not at all.
const sector = 512

// interrupted reports whether a crash explains what stands at offset, where no
// whole record is: sectors are missing of one that was written, or of zeros that
// were. Where a sector is missing, there is nothing.
func (l *batchLog) interrupted(all []byte, offset int) bool {
	n := l.lengthAt(all, offset)
	if n == 0 { // the head itself is not whole: its sectors, two at most
		n = max(recordHead, sector-offset%sector)
	}
	for from := offset; from < offset+n; {
		to := min(from-from%sector+sector, offset+n)
		if from >= len(all) || allZero(all[from:min(to, len(all))]) {
			return true
		}
		from = to
	}
	return false
}

func allZero(b []byte) bool { return usedOf(b) == 0 }

// zeros are compared with whole: a log is zeros for the most part.
var zeros [4096]byte

// usedOf is how long b is without the zeros at its end.
func usedOf(b []byte) int {
	for len(b) > len(zeros) && bytes.Equal(b[len(b)-len(zeros):], zeros[:]) {
		b = b[:len(b)-len(zeros)]
	}
	return len(bytes.TrimRight(b, "\x00"))
}

// clear has a half begin anew, over nothing: the pages have all of it, up to batch
// seq. It goes by steps, since a sync of the other half waits for what was written
// to this one.
func (l *batchLog) clear(h *half, seq uint64, sync bool) error {
	durable := func(err error) error {
		if err == nil && sync {
			err = syncData(l.clearing)
		}
		return err
	}
	nothing := make([]byte, min(logStep, h.end-h.from-logHeader))
	for from := h.from + logHeader; from < h.end; from += int64(len(nothing)) {
		_, err := l.clearing.WriteAt(nothing[:min(int64(len(nothing)), h.end-from)], from)
		if err := durable(err); err != nil {
			return err
		}
	}
	h.end = h.from + logHeader
	return durable(l.begin(l.clearing, h, seq))
}

// logged is a record that was read back.
type logged struct {
	counts []census
	list   []change
}

func decodeLogged(body []byte) (logged, error) {
	d := &Decoder{b: body}
	var r logged
	for n := d.Count(); n > 0 && !d.bad; n-- {
		r.counts = append(r.counts, census{count: d.Uint(), sum: d.Uint()})
	}
	for n := d.Count(); n > 0 && !d.bad; n-- {
		r.list = append(r.list, change{bucket: d.Text(), key: d.Text(), sealed: d.Bytes()})
	}
	if d.bad || len(d.b) >= recordStep {
		return logged{}, fmt.Errorf("log: %w", errRecord)
	}
	return r, nil
}
