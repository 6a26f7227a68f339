package statements

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/concordat-tx/concordat/rpc/strictjson"
)

// UnsupportedError: a statement that cannot be part of a branch.
type UnsupportedError struct {
	Field string
	// Word is the statement's first one.
	Word string
	// Mend says what to do instead.
	Mend string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s cannot be part of a branch: %s", e.Field, e.Word, e.Mend)
}

// What to do instead.
const (
	mendControl = "the coordinator begins and ends the transaction, leave it out"
	mendSchema  = "change the schema before, outside of transactions"
	mendLock    = "lock rows, with SELECT … FOR UPDATE"
	mendSession = "a session serves many branches: set it for the role or the database"
	mendOther   = "use SELECT, INSERT, UPDATE, DELETE, MERGE, REPLACE, VALUES, TABLE, WITH or CALL"
	mendHidden  = "a statement must begin with its first word, not with a comment that servers read differently"
)

// allowed are the first words of what may be executed. A list of what is
// forbidden would be as long as the servers' versions are many.
var allowed = map[string]bool{
	"SELECT": true, "INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true,
	"REPLACE": true, "VALUES": true, "TABLE": true, "WITH": true, "CALL": true,
}

// mends are for the words that people try.
var mends = map[string]string{
	"BEGIN": mendControl, "START": mendControl, "COMMIT": mendControl, "END": mendControl, "ROLLBACK": mendControl,
	"ABORT": mendControl, "SAVEPOINT": mendControl, "RELEASE": mendControl, "PREPARE": mendControl, "XA": mendControl,
	"CREATE": mendSchema, "ALTER": mendSchema, "DROP": mendSchema, "TRUNCATE": mendSchema, "RENAME": mendSchema,
	"GRANT": mendSchema, "REVOKE": mendSchema, "REINDEX": mendSchema, "VACUUM": mendSchema, "ANALYZE": mendSchema,
	"OPTIMIZE": mendSchema, "COMMENT": mendSchema,
	"LOCK": mendLock, "UNLOCK": mendLock,
	"SET": mendSession, "RESET": mendSession, "DISCARD": mendSession, "USE": mendSession, "LISTEN": mendSession,
	"NOTIFY": mendSession, "UNLISTEN": mendSession,
}

// journal are the tables that prove what was committed. A branch that names them
// would write its own proof. This keeps mistakes away; whoever must keep others
// out gives the statements a role of their own, by a function that they CALL.
var journal = regexp.MustCompile("(?i)\\bconcordat[\"`]?\\s*\\.\\s*[\"`]?(participant|entry|overlay)\\b|\\bconcordat_(participant|entry|overlay)\\b")

// journalIn is the first table of the journal that a statement names; empty: none.
// Few statements have its first letters at all.
func journalIn(sql string) string {
	const schema = "concordat"
	for i := 0; i+len(schema) <= len(sql); i++ {
		if sql[i]|0x20 == schema[0] && strings.EqualFold(sql[i:i+len(schema)], schema) {
			return journal.FindString(sql)
		}
	}
	return ""
}

func supported(field, sql string) error {
	if name := journalIn(sql); name != "" {
		return &UnsupportedError{field, name, "it is Concordat's own journal, leave it alone"}
	}
	word, hidden := firstWord(sql)
	switch {
	case hidden:
		return &UnsupportedError{field, "such a comment", mendHidden}
	case allowed[word]:
		return nil
	}
	mend := mends[word]
	if mend == "" {
		mend = mendOther
	}
	if word == "" {
		word = "what begins with " + strictjson.Clip(fmt.Sprintf("%q", strings.TrimSpace(sql)))
	}
	return &UnsupportedError{field, word, mend}
}

// firstWord is the first word of a statement in capitals, behind white space,
// comments and opening parentheses. hidden: a comment that MariaDB and MySQL
// execute, or that they and PostgreSQL end at different places.
func firstWord(sql string) (word string, hidden bool) {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v(")
		switch {
		case strings.HasPrefix(sql, "/*!"), strings.HasPrefix(sql, "/*M!"):
			return "", true
		case strings.HasPrefix(sql, "/*"):
			comment, rest, _ := strings.Cut(sql[2:], "*/")
			// PostgreSQL nests comments and MariaDB does not: each would read another statement.
			if strings.Contains(comment, "/*") {
				return "", true
			}
			sql = rest
		case strings.HasPrefix(sql, "--"), strings.HasPrefix(sql, "#"):
			_, sql, _ = strings.Cut(sql, "\n")
		default:
			letter := func(r rune) bool { return r < 'A' || r > 'Z' && r < 'a' || r > 'z' }
			if i := strings.IndexFunc(sql, letter); i >= 0 {
				sql = sql[:i]
			}
			return strings.ToUpper(sql), false
		}
	}
}
