CREATE TABLE seat (
  flight    text NOT NULL,
  name      text NOT NULL,
  passenger text,          -- NULL: the seat is free
  booking   text UNIQUE,
  PRIMARY KEY (flight, name)
);
