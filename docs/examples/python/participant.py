"""A Concordat participant in Python: integers under keys, all 0 at first, in one SQLite file."""
import argparse, concurrent.futures, contextlib, hashlib, json, logging, os, re, sqlite3, struct, threading, time
import grpc, grpc_status.rpc_status
from google.rpc import error_details_pb2, status_pb2
from concordat.v1 import coordinator_pb2, coordinator_pb2_grpc, participant_pb2, participant_pb2_grpc, types_pb2

SCHEMA = """PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;  -- COMMIT returns when it is on the disk
CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY, incarnation TEXT, cluster TEXT, term BLOB, floor BLOB);
CREATE TABLE IF NOT EXISTS data (key TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS held (id TEXT PRIMARY KEY, attempt BLOB, digest BLOB, result BLOB, effects TEXT);
CREATE TABLE IF NOT EXISTS ended (id TEXT, attempt BLOB, digest BLOB, committed, PRIMARY KEY (id, attempt, digest));
INSERT OR IGNORE INTO meta VALUES (1, lower(hex(randomblob(16))), '', x'', x'');"""
END = "INSERT OR IGNORE INTO ended VALUES (?, ?, ?, ?)"
CODES = {"INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT, "OTHER_HELD": grpc.StatusCode.UNAVAILABLE}

class Refused(Exception): """No answer, but an error: its reason and a message."""
class Abort(Exception): """The vote ABORTED: the code of its reason and a message."""

def order(a):  # an attempt as bytes that sort as attempts do: 4 of generation, 8 of term, 8 of sequence
    return struct.pack(">IQQ", a.generation, a.term, a.sequence)
def ref(branch):  # what a branch is known by
    return branch.id, order(branch.attempt), branch.digest

class Participant(participant_pb2_grpc.ParticipantServicer):
    def __init__(self, name, file, nodes):
        self.name, self.lock, self.doubtful, self.kept = name, threading.RLock(), set(), set()
        self.nodes = [coordinator_pb2_grpc.CoordinatorStub(grpc.insecure_channel(node)) for node in nodes]
        self.db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
        self.db.executescript(SCHEMA)
        (self.incarnation,), = self.rows("SELECT incarnation FROM meta")

    def rows(self, sql, *args):
        with self.lock:
            return self.db.execute(sql, args).fetchall()

    @contextlib.contextmanager
    def write(self, context=None):  # one atomic, durable write, or none; nothing is answered before it has ended
        try:
            with self.lock, self.db:
                self.db.execute("BEGIN IMMEDIATE")
                yield
        except Refused as e:
            if context:
                code = CODES.get(e.args[0], grpc.StatusCode.FAILED_PRECONDITION)
                status = status_pb2.Status(code=code.value[0], message=e.args[1])
                status.details.add().Pack(error_details_pb2.ErrorInfo(reason=e.args[0], domain="concordat"))
                context.abort_with_status(grpc_status.rpc_status.to_status(status))
        except sqlite3.DatabaseError:  # what the file holds is not known any more (P15)
            logging.critical("cannot write the data, ending", exc_info=True)
            os._exit(1)

    def Describe(self, request, context):
        (cluster, term, held), = self.rows("SELECT cluster, term, (SELECT count(*) FROM held) FROM meta")
        generation, term = struct.unpack(">IQ", term or bytes(12))
        return participant_pb2.DescribeResponse(name=self.name, kind="python", incarnation=self.incarnation,
                                                cluster_id=cluster, generation=generation, term=term, prepared=held)

    def Prepare(self, request, context):
        answer = participant_pb2.PrepareResponse(branch=request.branch, incarnation=self.incarnation)
        with self.write(context):
            self.check(request.fence, request.branch, request.payload)
            try:
                answer.result = self.prepare(*ref(request.branch), request.payload)
                answer.vote = types_pb2.VOTE_PREPARED
            except Abort as e:
                answer.vote, (answer.reason.code, answer.reason.message) = types_pb2.VOTE_ABORTED, e.args
            return answer

    def Commit(self, request, context, commit=True):
        with self.write(context):
            self.check(request.fence, request.branch)
            settled = self.settle(*ref(request.branch), commit)
            return participant_pb2.SettleResponse(branch=request.branch, settled=settled)
    def Rollback(self, request, context):
        return self.Commit(request, context, commit=False)

    def check(self, fence, branch, payload=None):  # form and fence (P14); only a Prepare has a payload
        (cluster, known), = self.rows("SELECT cluster, term FROM meta")
        term, bad = struct.pack(">IQ", fence.generation, fence.term), "INVALID_ARGUMENT"
        (id, attempt, digest), tried = ref(branch), branch.attempt
        for ok, reason, message in (
            (fence.cluster_id and fence.term, bad, "fence: cluster_id is empty, or term is 0"),
            (re.fullmatch("(?![.]*$)[A-Za-z0-9._-]{1,48}", id), bad, "branch.id: 1 to 48 of A-Za-z0-9._-"),
            (tried.term and tried.sequence and attempt[:12] <= term, bad, "branch.attempt: from 1, of no later term"),
            (len(digest) == 16 and len(payload or b"") <= 65536, bad, "digest: 16 bytes; payload: at most 65536"),
            (payload is None or digest == hashlib.sha256(payload).digest()[:16], bad, "digest: not the payload's"),
            (fence.participant == branch.participant == self.name, "WRONG_PARTICIPANT", f"this is {self.name}"),
            (fence.incarnation in ("", self.incarnation), "WRONG_INCARNATION", f"this is {self.incarnation}"),
            (cluster in ("", fence.cluster_id), "WRONG_CLUSTER", f"these data belong to cluster {cluster}"),
            (term[:4] >= known[:4], "WRONG_GENERATION", "the cluster has begun a newer generation"),
            (payload is None or term >= known, "STALE_TERM", "the cluster has a newer leader"),
        ):
            if not ok:
                raise Refused(reason, message)
        self.db.execute("UPDATE meta SET cluster = ?, term = max(term, ?), floor = max(floor, ?)",
                        [fence.cluster_id, term, order(fence.floor)])

    def prepare(self, id, attempt, digest, payload):  # the table of Prepare, row by row; returns the result
        held = self.rows("SELECT attempt, digest, result, effects FROM held WHERE id = ?", id)
        (floor, newest), = self.rows("SELECT floor, (SELECT max(attempt) FROM ended WHERE id = ?) FROM meta", id)
        older, content, result, effects = held[0] if held else (b"", digest, b"", "")
        if older == attempt and content == digest:
            return result
        if older == attempt:
            raise Abort(types_pb2.Reason.MISMATCH, "this attempt is held with other content")
        if attempt < floor:
            raise Refused("BELOW_FLOOR", "the attempt is decided or can never begin")
        if attempt <= max(older, newest or b""):
            raise Abort(types_pb2.Reason.SUPERSEDED, "the attempt or a newer one is finished, refused or held")
        if content != digest:
            self.db.execute(END, [id, attempt, digest, False])
            raise Abort(types_pb2.Reason.MISMATCH, "an older attempt is held with other content")
        if not held:
            effects, result = self.work(payload)
        self.db.execute("REPLACE INTO held VALUES (?, ?, ?, ?, ?)", [id, attempt, digest, result, effects])
        return result  # of work done just now, or under an older attempt

    def settle(self, id, attempt, digest, commit):  # the tables of Commit and Rollback, row by row
        held = self.rows("SELECT attempt, digest, effects FROM held WHERE id = ?", id)
        ends = dict(self.rows("SELECT digest, committed FROM ended WHERE id = ? AND attempt = ?", id, attempt))
        if ends.get(digest):
            return types_pb2.SETTLED_DONE if commit else types_pb2.HEURISTIC_COMMIT
        if held and held[0][:2] == (attempt, digest):
            if commit:
                self.db.executemany("REPLACE INTO data VALUES (?, ?)", json.loads(held[0][2]).items())
            self.db.execute("DELETE FROM held WHERE id = ?", [id])
        elif held or not commit and ends and digest not in ends:
            raise Refused("OTHER_HELD", "another attempt is held, or this one has ended with other content")
        elif commit:
            return types_pb2.HEURISTIC_ROLLBACK if digest in ends else types_pb2.HEURISTIC_HAZARD
        self.db.execute(END, [id, attempt, digest, commit])  # a tombstone, where there was nothing
        return types_pb2.SETTLED_DONE

    def work(self, payload):  # changes nothing: returns the values to come of the keys it locks, and the result
        locked = {key for effects, in self.rows("SELECT effects FROM held") for key in json.loads(effects)}
        effects, results = {}, []
        try:
            for op in json.loads(payload)["ops"]:
                key, delta = str(op["key"]), {"get": 0, "add": op.get("delta")}[op["op"]]
                if key in locked:
                    raise Abort(types_pb2.Reason.CONFLICT, f"{key!r} is locked")
                stored = self.rows("SELECT ifnull(sum(value), 0) FROM data WHERE key = ?", key)[0][0]
                effects[key] = value = effects.get(key, stored) + int.__index__(delta)
                if not op.get("min", value) <= value <= op.get("max", value) or abs(value) >= 2**63:
                    raise Abort(types_pb2.Reason.CONDITION, f"{key!r} would be {value}")
                if op["op"] == "get":
                    results.append({"key": key, "exists": True, "value": value})
        except (ValueError, TypeError, KeyError, RecursionError) as e:
            raise Abort(types_pb2.Reason.INVALID, f"the payload is not understood: {e!r:.200}")
        return json.dumps(effects), json.dumps({"results": results}).encode()

    def ask(self, refs, finished):  # P7: in batches, one node after the other until a leader has answered
        ((cluster,),), names = self.rows("SELECT cluster FROM meta"), ("generation", "term", "sequence")
        for start in range(0, len(refs), 1000):
            question = coordinator_pb2.OutcomesRequest(cluster_id=cluster, participant=self.name, finished=finished)
            for id, attempt, digest in refs[start:start + 1000]:
                attempt = dict(zip(names, struct.unpack(">IQQ", attempt)))
                question.branches.add(id=id, attempt=attempt, participant=self.name, digest=digest)
            for node in self.nodes:
                with contextlib.suppress(grpc.RpcError):
                    answer = node.Outcomes(question, timeout=0.5)
                    yield from answer.outcomes
                    if answer.leader:
                        break

    def inquire(self):  # about what was in doubt at the last look, too; of older generations nobody knows (P14)
        before, now = self.doubtful, "SELECT id, attempt, digest FROM held, meta WHERE attempt >= substr(term, 1, 4)"
        self.doubtful = set(self.rows(now)) - self.kept
        for o in self.ask(list(before & self.doubtful), finished=False):
            if o.answer in (o.COMMIT, o.ABORT):
                with self.write():
                    self.settle(*ref(o.branch), o.answer == o.COMMIT)
            elif o.answer in (o.FORGOTTEN, o.MISMATCH):  # that settles nothing
                self.kept.add(ref(o.branch))
                logging.error("the cluster cannot settle the prepared transaction %s: see to it", o.branch.id)

    def forget(self):  # P8: what is below the floor that is stored here, once the cluster calls it finished
        below = self.rows("SELECT id, attempt, digest FROM ended, meta WHERE attempt < floor")
        over = [ref(o.branch) for o in self.ask(below, finished=True) if o.finished]
        with self.write():
            self.db.executemany("DELETE FROM ended WHERE (id, attempt, digest) = (?, ?, ?)", over)

def main(kind=Participant):
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nodes = os.environ.get("CONCORDAT_NODES", "127.0.0.1:7001")
    for flag, default in ("name", "python"), ("listen", "127.0.0.1:7301"), ("data", "python.db"), ("nodes", nodes):
        flags.add_argument("--" + flag, default=default, help=f"default: {default}")
    args = flags.parse_args()
    participant = kind(args.name, args.data, args.nodes.split(","))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    participant_pb2_grpc.add_ParticipantServicer_to_server(participant, server)
    server.add_insecure_port(args.listen)
    server.start()
    while True:
        participant.inquire()
        participant.forget()
        time.sleep(0.5)

if __name__ == "__main__": main()
