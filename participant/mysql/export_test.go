package mysql

import (
	"context"
	"fmt"

	"github.com/concordat-tx/concordat/test/database"
)

// NewDSN is an empty database for the examples.
func NewDSN() (string, error) { return mariaDB.Create(context.Background()) }

// FreeAddress is where an example may listen.
func FreeAddress() (string, error) {
	port, err := database.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}
