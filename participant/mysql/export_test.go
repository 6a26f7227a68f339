package mysql

import "context"

// NewDSN is an empty database for the examples.
func NewDSN() (string, error) { return mariaDB.Create(context.Background()) }
