package durable

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrClosed is the error of every call after Close.
var ErrClosed = errors.New("the store is closed")

// ErrInUse: another process, or another Store of this one, has the file open.
var ErrInUse = errors.New("in use by another process: stop that one first, or choose another file")

// CorruptError: the file is not as it was written. Restore it from a backup,
// or wipe it and register the participant with a new incarnation (P14).
type CorruptError struct {
	File   string
	Bucket string // empty if the damage is not within a bucket
	Key    string // empty if the damage is not within a record
	Reason string
}

func (e *CorruptError) Error() string {
	at := e.File
	switch {
	case e.Key != "":
		at = fmt.Sprintf("%s, bucket %q, key %q", e.File, e.Bucket, e.Key)
	case e.Bucket != "":
		at = fmt.Sprintf("%s, bucket %q", e.File, e.Bucket)
	}
	return fmt.Sprintf("%s: damaged: %s; restore the file from a backup, or remove it and register the participant anew", at, e.Reason)
}

// WriteError: a write or sync failed, so the state of the file is not known
// (P15). A restart reads what became durable; nothing of it was acknowledged.
type WriteError struct {
	File string
	Err  error
}

func (e *WriteError) Error() string {
	return fmt.Sprintf("%s: write or sync failed: %v; nothing more is written to it: check the disk, then restart", e.File, e.Err)
}

// Unwrap is the error of the write or sync.
func (e *WriteError) Unwrap() error { return e.Err }

// failedWrite is the error of a write that failed, or that found damage.
func (s *File) failedWrite(err error) error {
	if IsFatal(err) {
		return err
	}
	return &WriteError{File: s.path, Err: err}
}

// guard turns a fault of the memory map (a file cut short under us) and an
// assertion of bbolt (a page that is not what it should be) into a
// CorruptError. It is deferred around code that reads Pages, and nothing else.
//
//	defer guard(file, &err, debug.SetPanicOnFault(true))
func guard(file string, err *error, old bool) {
	debug.SetPanicOnFault(old)
	if r := recover(); r != nil {
		*err = &CorruptError{File: file, Reason: fmt.Sprintf("reading a page failed: %v", r)}
	}
}

// IsFatal reports whether err says that the file cannot be trusted.
func IsFatal(err error) bool {
	var corrupt *CorruptError
	var write *WriteError
	return errors.As(err, &corrupt) || errors.As(err, &write)
}

// check passes err on; if it says that the file cannot be trusted, the store
// stops for good and Options.Fatal is called, once.
func (s *File) check(err error) error {
	if err == nil || !IsFatal(err) {
		return err
	}
	s.failOnce.Do(func() {
		s.failed.Store(&err)
		s.options.Fatal(err)
	})
	return err
}

// Failure is the error that stopped the store; nil if none did.
func (s *File) Failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}
