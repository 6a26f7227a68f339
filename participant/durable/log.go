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

// The log is one file beside the pages: a header, then a record for each batch,
// written and synced before anyone in the batch is answered. What it has is
// written to the pages when it is full (a checkpoint) and then begins anew in the
// same place, so that most syncs write over blocks that the file already has,
// which costs the file system no transaction of its own.
const (
	logHeader  = 4096      // of the file; no record shares its block
	recordHead = 24        // length, checksum, number, checksum of these, nothing
	recordStep = 8         // where records may begin
	logStep    = 256 << 10 // the file grows by so much
	// logBytes is the length at which a checkpoint is due. It bounds the memory
	// of the overlay and the time of a checkpoint, which votes wait for.
	logBytes = 4 << 20
	logMagic = "cc-log-1"
	logID    = 16
)

// batchLog is the log, open for appending.
type batchLog struct {
	file *os.File
	id   [logID]byte
	end  int64 // where the next record goes
	size int64 // of the file
	buf  []byte
}

// logPath is the log of the file at path.
func logPath(path string) string { return path + ".log" }

// header is what the file begins with. base is a batch that the pages have, with
// all before it: with older pages the log is of no use.
func (l *batchLog) header(base uint64) []byte {
	b := append([]byte(logMagic), l.id[:]...)
	b = binary.BigEndian.AppendUint64(b, base)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// fits reports whether the log begins as that of pages which have batch seq.
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
	l = &batchLog{end: logHeader}
	// crypto/rand never fails: it ends the process instead.
	_, _ = rand.Read(l.id[:])
	if l.file, err = s.openLog(os.O_CREATE | os.O_TRUNC); err != nil {
		return nil, err
	}
	if err = l.grow(logStep); err == nil {
		_, err = l.file.WriteAt(l.header(0), 0)
	}
	if err == nil && !s.db.NoSync {
		err = errors.Join(l.file.Sync(), syncDirectory(filepath.Dir(s.path)))
	}
	if err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	return l, nil
}

func (s *File) openLog(flag int) (*os.File, error) {
	open := s.options.OpenFile
	if open == nil {
		open = os.OpenFile
	}
	return open(logPath(s.path), os.O_RDWR|flag, 0o600)
}

// grow makes the file so long, with zeros that have their blocks.
func (l *batchLog) grow(size int64) error {
	if _, err := l.file.WriteAt(make([]byte, size-l.size), l.size); err != nil {
		return err
	}
	l.size = size
	return nil
}

// encode makes the record of a batch; false if it does not fit in.
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
		if l.end+int64(len(e.b)) > logBytes {
			return false
		}
	}
	for len(e.b)%recordStep != 0 {
		e.b = append(e.b, 0)
	}
	l.buf = e.b
	if l.end+int64(len(l.buf)) > logBytes {
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
	if need := l.end + int64(len(l.buf)); need > l.size {
		if err := l.grow((need + logStep - 1) / logStep * logStep); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(l.buf, l.end); err != nil {
		return err
	}
	if sync {
		if err := syncData(l.file); err != nil {
			return err
		}
	}
	l.end += int64(len(l.buf))
	return nil
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
	if n := binary.BigEndian.Uint32(b); binary.BigEndian.Uint32(b[16:]) == l.headChecksum(b) && n >= recordHead && n <= logBytes {
		return int(n)
	}
	return 0
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

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// clear has the log begin anew, over nothing: the pages have all of it, up to
// its end and batch seq.
func (l *batchLog) clear(end int64, seq uint64, sync bool) error {
	_, err := l.file.WriteAt(make([]byte, end-logHeader), logHeader)
	if err == nil {
		_, err = l.file.WriteAt(l.header(seq), 0)
	}
	if err == nil && sync {
		err = syncData(l.file)
	}
	l.end = logHeader
	return err
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
