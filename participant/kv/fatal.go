package kv

import "github.com/concordat-tx/concordat/participant/durable"

// Errors of the file; see package durable.
var (
	// ErrClosed is the error of every call after Close.
	ErrClosed = durable.ErrClosed
	// ErrInUse: another process, or another Store of this one, has the file open.
	ErrInUse = durable.ErrInUse
)

type (
	// CorruptError: the file is not as it was written.
	CorruptError = durable.CorruptError
	// WriteError: a write or sync failed, so the state of the file is not known (P15).
	WriteError = durable.WriteError
)
