package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Statements is the Work of the ready-made agent: it executes the statements of
// the payload, and answers with the rows that they return.
func Statements(ctx context.Context, conn *sql.Conn, w participant.Work) ([]byte, error) {
	list, err := statements.Parse(w.Payload)
	if err != nil {
		return nil, voted(err)
	}
	var results statements.Results
	for i, s := range list {
		n, err := execute(ctx, conn, i, s, &results)
		if err != nil {
			return nil, voted(fmt.Errorf("statements[%d]: %w", i, err))
		}
		if s.Rows != nil && n != *s.Rows {
			return nil, Abort(pb.Reason_CONDITION, fmt.Sprintf("statements[%d].rows: %d expected, %d found", i, *s.Rows, n))
		}
	}
	result, err := results.Encode()
	return result, voted(err)
}

// voted gives errors of the payload their reasons; errors of the database have theirs.
func voted(err error) error {
	var unsupported *statements.UnsupportedError
	var field *fsm.FieldError
	switch {
	case err == nil, number(err) != 0:
		return err
	case errors.As(err, &unsupported):
		return Abort(pb.Reason_UNSUPPORTED, err.Error())
	case errors.As(err, &field), strings.Contains(err.Error(), "sql: expected "): // another number of arguments
		return Abort(pb.Reason_INVALID, err.Error())
	}
	return err
}

// execute is one statement; it returns how many rows were affected or returned.
func execute(ctx context.Context, conn *sql.Conn, i int, s statements.Statement, results *statements.Results) (int64, error) {
	if !returnsRows(s.SQL) {
		r, err := conn.ExecContext(ctx, s.SQL, s.Args...)
		if err != nil {
			return 0, err
		}
		return r.RowsAffected()
	}
	rows, err := conn.QueryContext(ctx, s.SQL, s.Args...)
	if err != nil {
		return 0, err
	}
	n, tabular, err := read(i, rows, results)
	if err := errors.Join(err, rows.Close()); err != nil || tabular {
		return n, err
	}
	return n, conn.QueryRowContext(ctx, "SELECT ROW_COUNT()").Scan(&n)
}

// returnsRows reports whether a statement may return rows. What does not do so
// after all is counted all the same.
func returnsRows(query string) bool {
	switch first(query) {
	case "SELECT", "VALUES", "TABLE", "WITH", "CALL":
		return true
	}
	return strings.Contains(strings.ToUpper(query), "RETURNING")
}

// read adds the rows to the results; tabular is false if the statement returns none.
func read(i int, rows *sql.Rows, results *statements.Results) (n int64, tabular bool, err error) {
	for more := true; more; more = rows.NextResultSet() {
		columns, err := rows.ColumnTypes()
		if err != nil {
			return n, tabular, err
		}
		if len(columns) == 0 {
			continue
		}
		tabular = true
		if err := readSet(i, rows, columns, results, &n); err != nil {
			return n, tabular, err
		}
	}
	return n, tabular, rows.Err()
}

func readSet(i int, rows *sql.Rows, columns []*sql.ColumnType, results *statements.Results, n *int64) error {
	names := make([]string, len(columns))
	raw := make([]sql.RawBytes, len(columns))
	dest := make([]any, len(columns))
	for j, c := range columns {
		names[j], dest[j] = c.Name(), &raw[j]
	}
	if err := results.Open(i, names); err != nil {
		return err
	}
	values := make([]statements.Value, len(columns))
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		for j, c := range columns {
			values[j] = valueOf(c.DatabaseTypeName(), raw[j])
		}
		if err := results.Row(values); err != nil {
			return err
		}
		*n++
	}
	results.Close()
	return rows.Err()
}

// valueOf is one value: integers as they are, bytes in base64, all else as text.
func valueOf(kind string, raw sql.RawBytes) statements.Value {
	if raw == nil {
		return statements.Null()
	}
	switch strings.TrimPrefix(kind, "UNSIGNED ") {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "YEAR":
		return statements.Value(append([]byte(nil), raw...))
	case "BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB", "BIT", "GEOMETRY":
		return statements.Bytes(raw)
	}
	return statements.Text(string(raw))
}
