package statements

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// Limits of a payload. As a whole it is limited by fsm.MaxPayloadBytes.
const (
	MaxStatements = 64       // statements a payload
	MaxSQLBytes   = 16 << 10 // the text of a statement
	MaxArgs       = 256      // arguments a statement
)

// Statement is one statement of a branch.
type Statement struct {
	SQL string
	// Args are string, int64, bool or nil.
	Args []any
	// Rows is how many rows must be affected or returned; nil: any number.
	Rows *int64
}

const whole = "payload"

// Parse reads and checks a payload. An error is a *fsm.FieldError that names
// the field by its path, or an *UnsupportedError.
func Parse(payload []byte) ([]Statement, error) {
	d, err := strictjson.New(whole, payload, fsm.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	var list []Statement
	err = d.Object(whole, func(name string) error {
		if name != "statements" {
			return unknown(strictjson.Join("", name), "only statements")
		}
		return d.List("statements", func(i int) error {
			if i == MaxStatements {
				return count(fmt.Sprintf("more than %d", MaxStatements))
			}
			s, err := parseStatement(d, fmt.Sprintf("statements[%d]", i))
			list = append(list, s)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, count("none")
	}
	return list, nil
}

func count(got string) error {
	return &fsm.FieldError{Field: "statements", Limit: fmt.Sprintf("1 to %d statements", MaxStatements), Got: got}
}

func unknown(field, limit string) error {
	return &fsm.FieldError{Field: field, Limit: limit, Got: "an unknown field"}
}

func parseStatement(d *strictjson.Decoder, path string) (Statement, error) {
	var s Statement
	err := d.Object(path, func(name string) (err error) {
		field := strictjson.Join(path, name)
		switch name {
		case "sql":
			s.SQL, err = parseSQL(d, field)
		case "args":
			s.Args, err = parseArgs(d, field)
		case "rows":
			var n int64
			n, err = d.Int(field)
			if s.Rows = &n; err == nil && n < 0 {
				err = &fsm.FieldError{Field: field, Limit: "0 or more", Got: fmt.Sprint(n)}
			}
		default:
			err = unknown(field, "sql, args and rows")
		}
		return err
	})
	if err == nil && s.SQL == "" {
		err = &fsm.FieldError{Field: strictjson.Join(path, "sql"), Limit: "required", Got: "nothing"}
	}
	return s, err
}

func parseSQL(d *strictjson.Decoder, field string) (string, error) {
	sql, err := d.Text(field)
	switch {
	case err != nil:
		return "", err
	case sql == "" || len(sql) > MaxSQLBytes:
		return "", &fsm.FieldError{Field: field, Limit: fmt.Sprintf("1 to %d bytes", MaxSQLBytes), Got: fmt.Sprintf("%d bytes", len(sql))}
	case strings.ContainsRune(sql, 0):
		return "", &fsm.FieldError{Field: field, Limit: "no zero byte", Got: "one"}
	}
	return sql, supported(field, sql)
}

func parseArgs(d *strictjson.Decoder, field string) ([]any, error) {
	var args []any
	err := d.List(field, func(i int) error {
		if i == MaxArgs {
			return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("at most %d arguments a statement", MaxArgs), Got: "more"}
		}
		arg, err := parseArg(d, fmt.Sprintf("%s[%d]", field, i))
		args = append(args, arg)
		return err
	})
	return args, err
}

func parseArg(d *strictjson.Decoder, field string) (any, error) {
	switch t := d.Token().(type) {
	case nil:
		return nil, nil
	case bool:
		return t, nil
	case string:
		if strings.ContainsRune(t, 0) {
			return nil, &fsm.FieldError{Field: field, Limit: "no zero byte", Got: "one"}
		}
		return t, nil
	case json.Number:
		n, err := strictjson.ParseInt(field, t)
		if err != nil {
			return nil, fmt.Errorf("%w (write a decimal as a string)", err)
		}
		return n, nil
	case json.Delim:
		return nil, strictjson.Wrong(field, "a string, a 64-bit integer, true, false or null", t)
	}
	return nil, strictjson.Wrong(field, "a string, a 64-bit integer, true, false or null", nil)
}

// Encode is the payload of a list of statements; Parse reads it back. It does
// not check. An argument of another type than Statement.Args allows is an error.
func Encode(list ...Statement) ([]byte, error) {
	type statement struct {
		SQL  string `json:"sql"`
		Args []any  `json:"args,omitempty"`
		Rows *int64 `json:"rows,omitempty"`
	}
	out := struct {
		Statements []statement `json:"statements"`
	}{}
	for i, s := range list {
		for j, arg := range s.Args {
			switch arg.(type) {
			case nil, string, int64, bool:
			default:
				return nil, fmt.Errorf("statements[%d].args[%d]: a string, an int64, a bool or nil, got a %T", i, j, arg)
			}
		}
		out.Statements = append(out.Statements, statement(s))
	}
	return json.Marshal(out)
}
