// Package statements is the payload that the ready-made agents of SQL databases
// execute, and the result that they vote with:
//
//	{"statements": [{"sql": "UPDATE acct SET balance = balance - $1 WHERE id = $2", "args": [120, "ann"], "rows": 1}]}
//
//	{"results": [{"statement": 0, "columns": ["id", "balance"], "rows": [["ann", 880]]}]}
//
// Placeholders are the database's own. An argument is a string, a 64-bit integer,
// true, false or null; anything else (decimals, times, bytes) is written as a
// string, which the database reads by the type that it expects there. rows is how
// many rows must be affected, or returned. In the result integers are integers,
// bytes are base64 in a string, and everything else is a string in the database's
// own notation, so that no decimal becomes a float.
//
// It is pure parsing: no database in it. What cannot be part of a branch is
// refused where the first word shows it; the resource managers find the rest.
package statements
