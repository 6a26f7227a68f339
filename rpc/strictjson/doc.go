// Package strictjson reads JSON of which every reader must understand the same:
// exactly one value of valid UTF-8, no field twice, integers of 64 bits and never
// floats. Its errors are *fsm.FieldError that name the field by its path.
package strictjson
