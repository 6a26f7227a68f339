package postgres

import (
	"fmt"

	"github.com/concordat-tx/concordat/test/database"
)

// Server is for the examples, which are of another package.
func Server() *database.Postgres { return server }

// FreeAddress is where an example may listen.
func FreeAddress() (string, error) {
	port, err := database.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}
