package postgres

import "github.com/concordat-tx/concordat/test/database"

// Server is for the examples, which are of another package.
func Server() *database.Postgres { return server }
