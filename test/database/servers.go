package database

import (
	"context"

	"github.com/concordat-tx/concordat/node/local/database"
)

// Postgres is a private PostgreSQL server.
type Postgres = database.Postgres

// MariaDB is a private MariaDB server.
type MariaDB = database.MariaDB

// Installed sees to it that the programs of both are there.
func Installed() error { return installed(func() error { return database.Find("", "") }) }

// StartPostgres makes a server and starts it. settings are lines of
// postgresql.conf; max_prepared_transactions is 200 unless they say otherwise.
func StartPostgres(settings map[string]string) (*Postgres, error) {
	if err := installed(func() error { return database.FindPostgres("") }); err != nil {
		return nil, err
	}
	return database.StartPostgres(context.Background(), database.Place{}, settings)
}

// StartMariaDB makes a server and starts it. args are further arguments of mariadbd.
func StartMariaDB(ctx context.Context, args ...string) (*MariaDB, error) {
	if err := installed(func() error { return database.FindMariaDB("") }); err != nil {
		return nil, err
	}
	return database.StartMariaDB(ctx, database.Place{}, args...)
}

// FreePort is one of the loopback where nobody listens now.
func FreePort() (int, error) { return database.FreePort() }
