CREATE TABLE account (
  name    VARCHAR(64) PRIMARY KEY,
  balance BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE TABLE payment (
  booking VARCHAR(64) PRIMARY KEY,
  payer   VARCHAR(64) NOT NULL,
  amount  BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT INTO account VALUES ('airline', 0);
