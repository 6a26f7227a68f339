// Package jsonform is the JSON form of requests and responses, the same over
// HTTP and in the commands. Names are those of the proto files. What differs
// from protobuf's own mapping is what a person writes or reads: a branch's
// payload and result are JSON as it stands, and are never read as numbers or
// rebuilt; a duration in a request is text such as "5s" or "1m30s".
//
// Requests are read strictly: a field that is unknown, stands twice, is of the
// wrong type or null is an error, and so is anything behind the object. Every
// such error is a *fsm.FieldError with the field's path and what it may be.
//
// In responses 64-bit integers are strings, since many readers hold numbers as
// floats; requests take them as numbers or strings. Enums are their full names.
package jsonform
