package mysql

import (
	"context"
	"fmt"
	"strings"
)

// Schema is what Open makes in the database of the DSN if it is missing, so
// that an administrator can make it beforehand and withhold CREATE.
var Schema = []string{
	`CREATE TABLE concordat_participant (
  name VARBINARY(64) NOT NULL PRIMARY KEY,
  incarnation VARBINARY(64) NOT NULL,
  cluster_id VARBINARY(64) NOT NULL DEFAULT '',
  generation INT UNSIGNED NOT NULL DEFAULT 0,
  term BIGINT UNSIGNED NOT NULL DEFAULT 0,
  floor_generation INT UNSIGNED NOT NULL DEFAULT 0,
  floor_term BIGINT UNSIGNED NOT NULL DEFAULT 0,
  floor_sequence BIGINT UNSIGNED NOT NULL DEFAULT 0,
  instance VARBINARY(255) NOT NULL DEFAULT ''
) ENGINE=InnoDB`,
	`CREATE TABLE concordat_entry (
  participant VARBINARY(64) NOT NULL,
  id VARBINARY(48) NOT NULL,
  body MEDIUMBLOB NOT NULL,
  branch VARBINARY(64) NOT NULL DEFAULT '',
  session BIGINT UNSIGNED NOT NULL DEFAULT 0,
  result MEDIUMBLOB,
  created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (participant, id)
) ENGINE=InnoDB`,
	`CREATE TABLE concordat_overlay (
  participant VARBINARY(64) NOT NULL,
  id VARBINARY(48) NOT NULL,
  body MEDIUMBLOB NOT NULL,
  PRIMARY KEY (participant, id)
) ENGINE=InnoDB`,
}

// tables makes those tables that are missing.
func (m *Manager) tables(ctx context.Context) error {
	for _, statement := range Schema {
		table := strings.Fields(statement)[2]
		_, err := m.control.ExecContext(ctx, "SELECT 1 FROM "+table+" LIMIT 0")
		if number(err) == errNoSuchTable {
			_, err = m.control.ExecContext(ctx, statement)
			if n := number(err); n == errTableDenied || n == errDatabaseDenied {
				return fmt.Errorf("table %s is missing and the user may not make it: GRANT CREATE on the database, "+
					"or make the tables that Schema has (concordat participant mysql --print-schema): %w", table, err)
			}
			if number(err) == errTableExists { // another instance was faster
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}
