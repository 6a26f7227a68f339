package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Statements is the Work of the ready-made agent: it executes the statements of
// the payload in their order. Arguments travel as text, and PostgreSQL reads
// each by the type that it expects there.
func Statements(ctx context.Context, tx pgx.Tx, w participant.Work) ([]byte, error) {
	list, err := statements.Parse(w.Payload)
	if err != nil {
		return nil, err
	}
	var results statements.Results
	for i, st := range list {
		if err := run(ctx, tx.Conn().PgConn(), i, st, &results); err != nil {
			return nil, fmt.Errorf("statements[%d]: %w", i, err)
		}
	}
	return results.Encode()
}

// run executes one statement, by the protocol that takes no more than one.
func run(ctx context.Context, conn *pgconn.PgConn, i int, st statements.Statement, results *statements.Results) error {
	reader := conn.ExecParams(ctx, st.SQL, arguments(st), nil, nil, nil)
	return conclude(reader, i, st, results)
}

// arguments are those of a statement as text.
func arguments(st statements.Statement) [][]byte {
	args := make([][]byte, len(st.Args))
	for j, arg := range st.Args {
		switch arg := arg.(type) {
		case string:
			args[j] = []byte(arg)
		case int64:
			args[j] = strconv.AppendInt(nil, arg, 10)
		case bool:
			args[j] = strconv.AppendBool(nil, arg)
		}
	}
	return args
}

// conclude reads what a statement came to.
func conclude(reader *pgconn.ResultReader, i int, st statements.Statement, results *statements.Results) error {
	err := read(reader, i, results)
	tag, end := reader.Close()
	switch {
	case end != nil: // the database's word, before what was made of its rows
		return end
	case err != nil:
		return err
	case st.Rows != nil && tag.RowsAffected() != *st.Rows:
		return Abort(pb.Reason_CONDITION, "statements[%d]: %d rows, and there must be %d", i, tag.RowsAffected(), *st.Rows)
	}
	return nil
}

func read(reader *pgconn.ResultReader, i int, results *statements.Results) error {
	fields := reader.FieldDescriptions()
	if len(fields) == 0 {
		return nil
	}
	columns := make([]string, len(fields))
	for j, f := range fields {
		columns[j] = f.Name
	}
	if err := results.Open(i, columns); err != nil {
		return err
	}
	row := make([]statements.Value, len(fields))
	for reader.NextRow() {
		for j, text := range reader.Values() {
			v, err := value(fields[j].DataTypeOID, text)
			if err != nil {
				return err
			}
			row[j] = v
		}
		if err := results.Row(row); err != nil {
			return err
		}
	}
	results.Close()
	return nil
}

// value is a value in a result, given in the database's own notation.
func value(oid uint32, text []byte) (statements.Value, error) {
	if text == nil {
		return statements.Null(), nil
	}
	switch oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		n, err := strconv.ParseInt(string(text), 10, 64)
		return statements.Int(n), err
	case pgtype.OIDOID, pgtype.XIDOID:
		n, err := strconv.ParseUint(string(text), 10, 64)
		return statements.Uint(n), err
	case pgtype.BoolOID:
		return statements.Bool(string(text) == "t"), nil
	case pgtype.ByteaOID:
		if len(text) < 2 || string(text[:2]) != `\x` {
			return nil, Abort(pb.Reason_FAILED, "bytea_output must be hex")
		}
		b, err := hex.DecodeString(string(text[2:]))
		return statements.Bytes(b), err
	}
	return statements.Text(string(text)), nil
}
