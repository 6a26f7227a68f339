"""A Concordat participant in Python: integers under keys, in one SQLite file.

Copy it as a start: the work of your service goes into work() and apply(), the rest is the protocol as
docs/participants.md tells it. What must be remembered is written in the same transaction as the data."""
import argparse, contextlib, hashlib, json, logging, os, random, re, sqlite3, struct, threading, time, uuid
from concurrent import futures
import grpc
from google.protobuf.any_pb2 import Any
from concordat.v1 import coordinator_pb2 as co, coordinator_pb2_grpc as co_grpc, participant_pb2 as pb, participant_pb2_grpc, types_pb2 as ty
from concordat_status_pb2 import ErrorInfo, Status

SCHEMA = """PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;  -- a commit returns when it is on the disk
CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY, incarnation TEXT, cluster TEXT, epoch BLOB, floor BLOB);
CREATE TABLE IF NOT EXISTS data (key TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS held (id TEXT PRIMARY KEY, attempt BLOB, digest BLOB, result BLOB, effects TEXT);
CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, id TEXT);
CREATE TABLE IF NOT EXISTS finished (id TEXT, attempt BLOB, digest BLOB, committed INTEGER, PRIMARY KEY (id, attempt, digest));"""
DELAY, RETRY, KEPT = 0.5, 0.25, 30  # seconds to an inquiry: the first, one after no answer, one that an operator must settle

class Refused(Exception): """An error of the call: reason, message."""

class Abort(Exception): """The vote ABORTED: code, message."""

def order(a):  # an attempt as bytes that sort as attempts do
    return struct.pack(">IQQ", a.generation, a.term, a.sequence)

def key(b):  # a BranchRef as the tables hold it
    return b.id, order(b.attempt), b.digest

class Participant(participant_pb2_grpc.ParticipantServicer):
    def __init__(self, name, file, nodes, new_incarnation=False):
        self.name, self.lock, self.doubt, self.cursor = name, threading.RLock(), None, 0
        self.channels = [grpc.insecure_channel(node) for node in nodes]
        self.db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
        self.db.executescript(SCHEMA)
        with self.write():
            self.db.execute("INSERT OR IGNORE INTO meta VALUES (1, '', '', x'', x'')")
            self.db.execute("UPDATE meta SET incarnation = ? WHERE incarnation = '' OR ?", (uuid.uuid4().hex, new_incarnation))
            self.incarnation = self.row("SELECT incarnation FROM meta")[0]

    def row(self, sql, *args):
        return self.db.execute(sql, args).fetchone()

    @contextlib.contextmanager
    def write(self):  # one atomic durable write; nothing is answered before it has ended
        try:
            with self.lock, self.db:
                self.db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.OperationalError as e:  # what the file holds is not known any more (P15)
            logging.critical("cannot write the data, ending: %s", e)
            os._exit(1)

    def answer(self, context, handle, *args):
        try:
            with self.write():
                return handle(*args)
        except Refused as e:
            reason, message = e.args
        code = getattr(grpc.StatusCode, {"INVALID_ARGUMENT": reason, "OTHER_HELD": "UNAVAILABLE"}.get(reason, "FAILED_PRECONDITION"))
        info = ErrorInfo(reason=reason, domain="concordat").SerializeToString()
        status = Status(code=code.value[0], message=message, details=[Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info)])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, message)

    def check(self, f, b, payload=None):  # the form of a message and its fence (P14); only a Prepare has a payload
        cluster, epoch, floor = self.row("SELECT cluster, epoch, floor FROM meta")
        now, invalid = struct.pack(">IQ", f.generation, f.term), "INVALID_ARGUMENT"
        for ok, reason, message in (
            (0 < len(f.cluster_id.encode()) <= 64 and f.term, invalid, "fence: cluster_id of 1 to 64 bytes, term from 1"),
            (re.fullmatch(r"[A-Za-z0-9._-]{1,48}", b.id) and b.id.strip("."), invalid, "branch.id: 1 to 48 of A-Za-z0-9._-, not only dots"),
            (b.attempt.term and b.attempt.sequence and order(b.attempt)[:12] <= now, invalid, "branch.attempt: from 1, of no later term"),
            (len(b.digest) == 16 and len(payload or b"") <= 65536, invalid, "branch.digest: 16 bytes; payload: at most 65536"),
            (payload is None or hashlib.sha256(payload).digest()[:16] == b.digest, invalid, "branch.digest: not that of the payload"),
            (f.participant == b.participant == self.name, "WRONG_PARTICIPANT", f"this is {self.name}"),
            (f.incarnation in ("", self.incarnation), "WRONG_INCARNATION", f"these data are {self.incarnation}"),
            (cluster in ("", f.cluster_id), "WRONG_CLUSTER", f"these data belong to cluster {cluster}"),
            (now[:4] >= epoch[:4], "WRONG_GENERATION", "a newer generation of the cluster has been heard of"),
            (payload is None or now >= epoch, "STALE_TERM", "a newer term has been heard of"),
        ):
            if not ok: raise Refused(reason, message)
        newest = (f.cluster_id, max(now, epoch), max(order(f.floor), floor))
        if newest != (cluster, epoch, floor): self.db.execute("UPDATE meta SET cluster = ?, epoch = ?, floor = ?", newest)

    def Describe(self, req, context):
        with self.lock: cluster, epoch, prepared = self.row("SELECT cluster, epoch, (SELECT count(*) FROM held) FROM meta")
        generation, term = struct.unpack(">IQ", epoch or bytes(12))
        return pb.DescribeResponse(name=self.name, kind="python", incarnation=self.incarnation, cluster_id=cluster,
                                   generation=generation, term=term, prepared=prepared)

    def Prepare(self, req, context):
        return self.answer(context, self.vote, req, time.monotonic() + max(req.budget_ms, 1) / 1000)

    def Commit(self, req, context):
        return self.answer(context, self.settled, req, True)

    def Rollback(self, req, context):
        return self.answer(context, self.settled, req, False)

    def vote(self, req, deadline):
        self.check(req.fence, req.branch, req.payload)
        answer = {"branch": req.branch, "incarnation": self.incarnation}
        try:
            if time.monotonic() > deadline: raise Abort(ty.Reason.TIMEOUT, "the budget was over before the work began")
            return pb.PrepareResponse(vote=ty.VOTE_PREPARED, result=self.prepare(*key(req.branch), req.payload), **answer)
        except Abort as e:
            return pb.PrepareResponse(vote=ty.VOTE_ABORTED, reason=ty.Reason(code=e.args[0], message=e.args[1]), **answer)

    def prepare(self, id, attempt, digest, payload):  # the table of Prepare, row by row; returns the result
        held = self.row("SELECT attempt, digest, result FROM held WHERE id = ?", id)
        newest = self.row("SELECT max(attempt) FROM finished WHERE id = ?", id)[0] or b""
        if held and held[:2] == (attempt, digest): return held[2]
        if attempt < self.row("SELECT floor FROM meta")[0]: raise Refused("BELOW_FLOOR", "the attempt is decided or can never begin")
        if attempt <= newest: raise Abort(ty.Reason.SUPERSEDED, "the attempt, or a newer one, is finished or refused here")
        if held and attempt < held[0]: raise Abort(ty.Reason.SUPERSEDED, "a newer attempt is held")
        if held and held[0] == attempt: raise Abort(ty.Reason.MISMATCH, "this attempt is held with other content")
        if held and held[1] != digest:
            self.remember(id, attempt, digest, False)
            raise Abort(ty.Reason.MISMATCH, "an older attempt is held with other content")
        if held:  # the same work under a newer attempt
            self.db.execute("UPDATE held SET attempt = ? WHERE id = ?", (attempt, id))
            return held[2]
        keys, effects, result = self.work(id, payload)
        self.db.executemany("INSERT INTO locks VALUES (?, ?)", [(key, id) for key in keys])
        self.db.execute("INSERT INTO held VALUES (?, ?, ?, ?, ?)", (id, attempt, digest, result, json.dumps(effects)))
        return result

    def settled(self, req, commit):
        self.check(req.fence, req.branch)
        found = self.settle(*key(req.branch), commit)
        return pb.SettleResponse(branch=req.branch, settled=found, message="" if found == ty.SETTLED_DONE else "the journal says otherwise")

    def settle(self, id, attempt, digest, commit):  # the tables of Commit and Rollback
        held = self.row("SELECT attempt, digest, effects FROM held WHERE id = ?", id)
        same = dict(self.db.execute("SELECT digest, committed FROM finished WHERE id = ? AND attempt = ?", (id, attempt)))
        if same.get(digest): return ty.SETTLED_DONE if commit else ty.HEURISTIC_COMMIT
        if held and held[:2] == (attempt, digest):
            self.apply(json.loads(held[2]) if commit else {})
            for table in "held", "locks": self.db.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
        elif held or same and digest not in same and not commit: raise Refused("OTHER_HELD", "another attempt or content is held or finished")
        elif commit: return ty.HEURISTIC_ROLLBACK if digest in same else ty.HEURISTIC_HAZARD
        self.remember(id, attempt, digest, commit)  # a tombstone, where there was nothing
        return ty.SETTLED_DONE

    def remember(self, id, attempt, digest, committed):
        self.db.execute("INSERT OR IGNORE INTO finished VALUES (?, ?, ?, ?)", (id, attempt, digest, committed))

    def work(self, id, payload):  # changes nothing; returns the keys to lock, the effects and the result
        keys, effects, results = set(), {}, []
        try:
            for op in json.loads(payload)["ops"]:
                key, value = op["key"], effects.get(op["key"], (self.row("SELECT value FROM data WHERE key = ?", op["key"]) or [None])[0])
                if self.row("SELECT 1 FROM locks WHERE key = ? AND id != ?", key, id): raise Abort(ty.Reason.CONFLICT, f"{key!r} is locked")
                if op["op"] == "add" and type(op["delta"]) is int:
                    value = effects[key] = (value or 0) + op["delta"]
                    low, high = max(op.get("min", -2**63), -2**63), min(op.get("max", 2**63 - 1), 2**63 - 1)
                    if not low <= value <= high: raise Abort(ty.Reason.CONDITION, f"{key!r} would be {value}")
                elif op["op"] == "get":
                    results.append({"key": key, "exists": False} if value is None else {"key": key, "exists": True, "value": value})
                else: raise ValueError(f"no operation: {op}")
                keys.add(key)
        except (ValueError, TypeError, KeyError, RecursionError, sqlite3.InterfaceError) as e:
            raise Abort(ty.Reason.INVALID, f"the payload is not understood: {e!r:.200}")
        return keys, effects, json.dumps({"results": results}).encode() if results else b""

    def apply(self, effects):
        self.db.executemany("INSERT OR REPLACE INTO data VALUES (?, ?)", effects.items())

    def outcomes(self, rows, finished):  # asks node after node until every row has an answer
        cluster, names, answers, floor = self.row("SELECT cluster FROM meta")[0], ("generation", "term", "sequence"), {}, b""
        for channel in self.channels:
            left = {r: pb.BranchRef(id=r[0], attempt=dict(zip(names, struct.unpack(">IQQ", r[1]))), participant=self.name, digest=r[2])
                    for r in rows if r not in answers}
            with contextlib.suppress(grpc.RpcError):
                request = co.OutcomesRequest(cluster_id=cluster, participant=self.name, branches=left.values(), finished=finished)
                response = co_grpc.CoordinatorStub(channel).Outcomes(request, timeout=DELAY) if left else co.OutcomesResponse()
                if response.leader or not finished:  # what is finished only a leader knows; 0 is no answer
                    floor = max(floor, order(response.floor))
                    answers.update((key(o.branch), o) for o in response.outcomes if key(o.branch) in left and (finished or o.answer))
        return answers, floor

    def inquire(self):  # P7: asks about what is prepared for longer than a moment, or since before this process
        now, delay = time.monotonic(), 0 if self.doubt is None else DELAY
        current = "SELECT id, attempt, digest FROM held WHERE attempt >= (SELECT substr(epoch, 1, 4) FROM meta)"  # older generations: an operator
        with self.lock: held = list(self.db.execute(current))
        self.doubt = {row: (self.doubt or {}).get(row, now + delay) for row in held}  # when to ask
        due = [row for row in held if self.doubt[row] <= now][:1000]
        self.doubt |= {row: now + RETRY for row in due}
        for row, o in self.outcomes(due, False)[0].items(): self.act(row, o.answer)

    def act(self, row, answer):
        self.doubt[row] = time.monotonic() + random.uniform(1, 2) * DELAY  # WAIT
        if answer in (co.BranchOutcome.COMMIT, co.BranchOutcome.ABORT):
            with contextlib.suppress(Refused), self.write(): self.settle(*row, answer == co.BranchOutcome.COMMIT)
        elif answer != co.BranchOutcome.WAIT:  # FORGOTTEN and MISMATCH settle nothing
            self.doubt[row] = time.monotonic() + KEPT
            logging.error("transaction %s is prepared and the cluster cannot settle it: an operator must", row[0])

    def forget(self):  # P8: drops what the cluster calls finished below its floor, in one write with that floor
        with self.lock: found = list(self.db.execute("SELECT rowid, id, attempt, digest FROM finished WHERE rowid > ? LIMIT 1000", (self.cursor,)))
        self.cursor = found[-1][0] if len(found) == 1000 else 0
        answers, floor = self.outcomes([f[1:] for f in found], True)
        if over := [row for row, o in answers.items() if o.finished and row[1] < floor]:
            with self.write():
                self.db.execute("UPDATE meta SET floor = max(floor, ?)", (floor,))
                self.db.executemany("DELETE FROM finished WHERE id = ? AND attempt = ? AND digest = ?", over)

    def register(self, endpoint):
        for channel in self.channels:
            with contextlib.suppress(grpc.RpcError):
                request = co.AddParticipantRequest(name=self.name, endpoints=[endpoint])
                return co_grpc.ClusterStub(channel).AddParticipant(request, timeout=5)

def every(seconds, what, *args):  # until it returns something
    while not what(*args): time.sleep(seconds)

def main(kind=Participant):
    flags, nodes = argparse.ArgumentParser(description=__doc__), os.environ.get("CONCORDAT_NODES", "127.0.0.1:7001")
    for flag, default in ("--name", "python"), ("--data", "participant.db"), ("--listen", "127.0.0.1:7301"), ("--nodes", nodes):
        flags.add_argument(flag, default=default, help=f"default: {default}")
    flags.add_argument("--forget-every", type=float, default=5, metavar="SECONDS")
    flags.add_argument("--new-incarnation", action="store_true", help="the data were restored from a backup")
    args = flags.parse_args()
    participant = kind(args.name, args.data, args.nodes.split(","), args.new_incarnation)
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    participant_pb2_grpc.add_ParticipantServicer_to_server(participant, server)
    server.add_insecure_port(args.listen)
    server.start()
    for work in (0.1, participant.inquire), (args.forget_every, participant.forget), (RETRY, participant.register, args.listen):
        threading.Thread(target=every, args=work, daemon=True).start()
    server.wait_for_termination()

if __name__ == "__main__": main()
