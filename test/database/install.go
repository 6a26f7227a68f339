package database

import (
	"errors"
	"strings"

	"github.com/concordat-tx/concordat/node/local/database"
	"github.com/concordat-tx/concordat/test/debian"
)

// installed looks for a server's programs and installs them if they are missing.
func installed(look func() error) error {
	err := look()
	missing, ok := errors.AsType[*database.Missing](err)
	if !ok {
		return err
	}
	_, err = debian.Program(strings.Join(missing.Servers, " and "), func() (string, error) { return "", look() }, missing.Packages...)
	return err
}
