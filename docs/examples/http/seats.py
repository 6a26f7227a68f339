#!/usr/bin/env python3
"""A service that books seats, as a participant over HTTP: try, confirm, cancel. GET /flights/NAME shows a flight.

    python3 seats.py --port 8080 --db seats.db --secret-file seats.secret
"""
import argparse, hashlib, hmac, json, sqlite3, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
for flag, default in [("--port", 8080), ("--db", "seats.db"), ("--secret-file", "seats.secret"), ("--capacity", 100)]:
    parser.add_argument(flag, type=type(default), default=default)
args = parser.parse_args()
secret = open(args.secret_file, "rb").read().removesuffix(b"\n").removesuffix(b"\r")


def database():
    db = sqlite3.connect(args.db, timeout=30, isolation_level=None)
    db.execute("PRAGMA synchronous=FULL")  # what is answered outlives the loss of power
    db.execute("CREATE TABLE IF NOT EXISTS seats(branch TEXT PRIMARY KEY, flight TEXT, seats INT, state TEXT)")
    return db


def act(db, call, branch, body):
    """One call is one transaction; the branch's row says what was done before."""
    seats, state = db.execute("SELECT seats, state FROM seats WHERE branch = ?", [branch]).fetchone() or (0, None)
    if call == "try" and state is None:
        want = json.loads(body)
        sold = "SELECT coalesce(sum(seats), 0) FROM seats WHERE flight = ? AND state != 'cancelled'"
        left = args.capacity - db.execute(sold, [want["flight"]]).fetchone()[0]
        if want["seats"] > left:
            return 409, f"{want['flight']} has {left} seats left"
        db.execute("INSERT INTO seats VALUES (?, ?, ?, 'reserved')", [branch, want["flight"], want["seats"]])
        return 200, json.dumps({"seats": want["seats"]})
    if call == "try" and state != "cancelled":
        return 200, json.dumps({"seats": seats})  # the same try again: its answer was lost
    if call == "confirm" and state in ("reserved", "confirmed"):
        db.execute("UPDATE seats SET state = 'confirmed' WHERE branch = ?", [branch])
        return 200, ""
    if call == "cancel" and state != "confirmed":  # also before the try, which must not come after it
        db.execute("INSERT INTO seats VALUES (?, '', 0, 'cancelled')"
                   " ON CONFLICT(branch) DO UPDATE SET state = 'cancelled'", [branch])
        return 200, ""
    return 409, f"the reservation is {state or 'unknown'} here"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def signed(self, body):
        stamp, branch = (self.headers.get("Concordat-" + name, "") for name in ["Timestamp", "Branch"])
        text = "\n".join(["v1", stamp, self.command, self.path, branch, ""]).encode() + body
        want = "v1=" + hmac.new(secret, text, hashlib.sha256).hexdigest()
        same = hmac.compare_digest(want, self.headers.get("Concordat-Signature", ""))
        return same and abs(time.time() - int(stamp)) <= 300

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.signed(body):
            return self.answer(401, "the signature is missing, wrong or too old")
        db = database()
        db.execute("BEGIN IMMEDIATE")  # an exception leaves here, and nothing is answered or done
        try:
            status, text = act(db, self.path.rsplit("/", 1)[1], self.headers["Concordat-Branch"], body)
        except (KeyError, TypeError, ValueError) as e:
            status, text = 409, f"the payload makes no sense: {e!r}"
        db.execute("COMMIT")
        self.answer(status, text)

    def do_GET(self):
        states = "SELECT state, sum(seats) FROM seats WHERE flight = ? GROUP BY state"
        self.answer(200, json.dumps(dict(database().execute(states, [self.path.rsplit("/", 1)[1]]))))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()
