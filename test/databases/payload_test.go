package databases

import (
	"encoding/json"
	"fmt"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// statement is one of a branch of the ready-made agents.
type statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args,omitempty"`
	Rows *int   `json:"rows,omitempty"`
}

// one demands that the statement affects one row.
func one(sql string, args ...any) statement {
	n := 1
	return statement{sql, args, &n}
}

// dialect writes the two parameters as the database does.
func dialect(kind, format string) string {
	if kind == maria {
		return fmt.Sprintf(format, "?", "?")
	}
	return fmt.Sprintf(format, "$1", "$2")
}

func (w *world) sql(kind string, list ...statement) *pb.Branch {
	return &pb.Branch{Participant: w.name(kind), Payload: marshal(map[string]any{"statements": list})}
}

type operation map[string]any

func (w *world) ops(list ...operation) *pb.Branch {
	return &pb.Branch{Participant: w.name(kv), Payload: marshal(map[string]any{"ops": list})}
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}

// entry changes an account of a participant, and leaves the transaction's mark there.
func (w *world) entry(kind, mark string, account, delta int) *pb.Branch {
	if kind == kv {
		return w.ops(operation{"op": "add", "key": fmt.Sprintf("acct/%d", account), "delta": delta}, operation{"op": "put", "key": "mark/" + mark, "value": 1})
	}
	return w.sql(kind, change(kind, account, delta), one(marking(kind), mark))
}

// refused is an entry whose last condition never holds.
func (w *world) refused(kind, mark string, account, delta int) *pb.Branch {
	if kind == kv {
		return w.ops(operation{"op": "add", "key": fmt.Sprintf("acct/%d", account), "delta": delta}, operation{"op": "check", "key": "never", "exists": true})
	}
	return w.sql(kind, change(kind, account, delta), one(marking(kind), mark), change(kind, -1, 0))
}

func change(kind string, account, delta int) statement {
	return one(dialect(kind, "UPDATE acct SET balance = balance + %s WHERE id = %s"), delta, account)
}

func marking(kind string) string {
	if kind == maria {
		return "INSERT INTO mark VALUES (?)"
	}
	return "INSERT INTO mark VALUES ($1)"
}
