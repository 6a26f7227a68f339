"""The participant of docs/examples/python with one defect of those that participants have had.

FAULT names it. The test runs each through the conformance suite, which must name the defect's check."""
import contextlib
import os
import time

import participant
from concordat.v1 import coordinator_pb2, types_pb2

Good = participant.Participant
FAULTS = {}


def fault(kind):
    FAULTS[kind.__name__] = kind
    return kind


@fault
class votes_before_it_is_durable(Good):
    late = {}

    def prepare(self, id, attempt, digest, payload):
        if not self.rows("SELECT 1 FROM held WHERE id = ?", id) and b'"add"' in payload:
            self.late[id] = (id, attempt, digest, payload)
            effects, result = self.work(payload)
            return result
        return super().prepare(id, attempt, digest, payload)

    def settle(self, id, attempt, digest, commit):
        if id in self.late and self.late[id][:3] == (id, attempt, digest):
            with contextlib.suppress(participant.Abort):
                super().prepare(*self.late.pop(id))
        return super().settle(id, attempt, digest, commit)


@fault
class acknowledges_a_commit_before_it_is_durable(Good):
    def Commit(self, request, context, commit=True):
        if commit and self.rows("SELECT 1 FROM held WHERE id = ? AND attempt = ?", *participant.ref(request.branch)[:2]):
            self.due = request
            return participant.participant_pb2.SettleResponse(branch=request.branch, settled=types_pb2.SETTLED_DONE)
        self.flush(context)
        return super().Commit(request, context, commit)

    def Prepare(self, request, context):
        self.flush(context)
        return super().Prepare(request, context)

    def flush(self, context):
        due, self.due = getattr(self, "due", None), None
        if due:
            super().Commit(due, context)


@fault
class keeps_tombstones_in_memory(Good):
    tombs = set()

    def settle(self, id, attempt, digest, commit):
        if not commit and not self.rows("SELECT 1 FROM held WHERE id = ? UNION SELECT 1 FROM ended WHERE id = ?", id, id):
            self.tombs.add((id, attempt))
            return types_pb2.SETTLED_DONE
        if commit and (id, attempt) in self.tombs:
            return types_pb2.HEURISTIC_ROLLBACK
        return super().settle(id, attempt, digest, commit)

    def prepare(self, id, attempt, digest, payload):
        if (id, attempt) in self.tombs:
            raise participant.Abort(types_pb2.Reason.SUPERSEDED, "rolled back")
        return super().prepare(id, attempt, digest, payload)


@fault
class takes_an_unknown_commit_for_done(Good):
    def settle(self, *branch):
        found = super().settle(*branch)
        return types_pb2.SETTLED_DONE if found == types_pb2.HEURISTIC_HAZARD else found


@fault
class forgets_what_it_committed(Good):
    def settle(self, id, attempt, digest, commit):
        found = super().settle(id, attempt, digest, commit)
        if commit:
            self.db.execute("DELETE FROM ended WHERE id = ? AND committed", [id])
        return found


@fault
class commits_whatever_attempt_it_holds(Good):
    def settle(self, id, attempt, digest, commit):
        held = self.rows("SELECT attempt, digest FROM held WHERE id = ?", id)
        return super().settle(id, *(held[0] if held and commit else (attempt, digest)), commit)


@fault
class takes_over_in_memory(Good):
    real = {}

    def prepare(self, id, attempt, digest, payload):
        held = self.rows("SELECT attempt, digest, result FROM held WHERE id = ?", id)
        if held and held[0][1] == digest and held[0][0] < attempt:
            self.real[id, attempt] = held[0][0]
            return held[0][2]
        return super().prepare(id, self.real.get((id, attempt), attempt), digest, payload)

    def settle(self, id, attempt, digest, commit):
        return super().settle(id, self.real.get((id, attempt), attempt), digest, commit)


@fault
class shows_the_effect_when_it_is_prepared(Good):
    def prepare(self, id, attempt, digest, payload):
        fresh = not self.rows("SELECT 1 FROM held WHERE id = ?", id)
        result = super().prepare(id, attempt, digest, payload)
        if fresh:
            (effects,), = self.rows("SELECT effects FROM held WHERE id = ?", id)
            self.db.executemany("REPLACE INTO data VALUES (?, ?)", participant.json.loads(effects).items())
        return result


@fault
class forgets_its_fence_when_it_restarts(Good):
    def __init__(self, *args):
        super().__init__(*args)
        self.db.execute("UPDATE meta SET cluster = '', term = x''")


@fault
class drops_its_locks_when_it_restarts(Good):
    def __init__(self, *args):
        self.unlocked = set()
        super().__init__(*args)
        self.unlocked = {effects for effects, in self.rows("SELECT effects FROM held")}

    def rows(self, sql, *args):
        found = super().rows(sql, *args)
        return [r for r in found if r[0] not in self.unlocked] if sql == "SELECT effects FROM held" else found


@fault
class forgets_above_the_floor(Good):
    def forget(self):
        refs = self.rows("SELECT id, attempt, digest FROM ended")
        over = [participant.ref(o.branch) for o in self.ask(refs, finished=True) if o.finished]
        with self.write():
            self.db.executemany("DELETE FROM ended WHERE (id, attempt, digest) = (?, ?, ?)", over)


@fault
class keeps_the_floor_in_memory(Good):
    def __init__(self, *args):
        super().__init__(*args)
        self.db.execute("UPDATE meta SET floor = x''")


@fault
class decides_alone_after_a_while(Good):
    since = {}

    def inquire(self):
        super().inquire()
        for branch in self.rows("SELECT id, attempt, digest FROM held"):
            if time.monotonic() - self.since.setdefault(branch, time.monotonic()) > 0.2:
                with self.write():
                    self.settle(*branch, False)


@fault
class stops_asking_at_an_error(Good):
    def inquire(self):
        self.doubtful = set()
        held = self.rows("SELECT id, attempt, digest FROM held")
        if held and not getattr(self, "stopped", False):
            answered = list(self.ask(held, finished=False))
            self.stopped = not answered
            for o in answered:
                if o.answer in (o.COMMIT, o.ABORT):
                    with self.write():
                        self.settle(*participant.ref(o.branch), o.answer == o.COMMIT)


class misread(Good):
    """Takes one answer for another."""
    said = taken_for = None

    def ask(self, refs, finished):
        for o in super().ask(refs, finished):
            if not finished and o.answer == self.said:
                o.answer = self.taken_for
            yield o


@fault
class takes_wait_for_abort(misread):
    said, taken_for = coordinator_pb2.BranchOutcome.WAIT, coordinator_pb2.BranchOutcome.ABORT


@fault
class takes_forgotten_for_commit(misread):
    said, taken_for = coordinator_pb2.BranchOutcome.FORGOTTEN, coordinator_pb2.BranchOutcome.COMMIT


@fault
class checks_on_arrival_and_not_in_the_write(Good):
    def Prepare(self, request, context):
        id, attempt, digest = participant.ref(request.branch)
        before = self.rows("SELECT max(attempt) FROM ended WHERE id = ?", id)[0][0]
        time.sleep(0.02)
        self.arrived = (id, before)
        return super().Prepare(request, context)

    def rows(self, sql, *args):
        found = super().rows(sql, *args)
        if "max(attempt)" in sql and sql.startswith("SELECT floor") and self.arrived[0] == args[0]:
            return [(found[0][0], self.arrived[1])]
        return found


@fault
class takes_an_id_for_one_that_begins_like_it(Good):
    def settle(self, id, attempt, digest, commit):
        found = super().settle(id, attempt, digest, commit)
        self.db.execute("DELETE FROM held WHERE substr(id, 1, ?) = ?", [len(id), id])
        return found


if __name__ == "__main__":
    participant.main(FAULTS[os.environ["FAULT"]])
