// Package database starts private database servers for tests, as node/local/database
// does. A server whose programs are missing is installed, or an error that names
// the package to install; tests fail with it and never skip.
package database
