package conform

import (
	"bytes"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func inputChecks() []check {
	return []check{
		one("input/digest of the payload", "P3", 0,
			"the digest is the name of the content: a payload that is not what it says must not be run under it", digestOfPayload),
		one("input/refused with its field", "P16", 0,
			"what is malformed must be refused whole, with INVALID_ARGUMENT, or the leader repeats it until the budget is over", malformedInput),
		one("input/unknown payload", "P5", effects,
			"a payload that makes no sense never will: an error would be retried until the budget is over", unknownPayload),
		one("input/large payload", "P16", effects,
			"64 KiB a branch are promised to clients", largePayload),
		one("ids/hostile", "P16", 0,
			"keys built from ids must not run into each other: one id being a prefix of another has cost a second phase", hostileIDs),
	}
}

func digestOfPayload(t *trial) {
	b := t.fresh()
	lie := t.other(b)
	lie.payload = b.payload
	v := t.vote(lie)
	t.refusedWith("Prepare of "+lie.String()+" with the payload of another digest", v.err, rpc.ReasonInvalidArgument)
	t.commit(lie, pb.Settled_HEURISTIC_HAZARD) // nothing was prepared
	t.effect(b.key, 0)
}

func malformedInput(t *trial) {
	for name, spoil := range map[string]func(r *pb.PrepareRequest){
		"an empty id":          func(r *pb.PrepareRequest) { r.Branch.Id = "" },
		"an id of 49 bytes":    func(r *pb.PrepareRequest) { r.Branch.Id = strings.Repeat("x", fsm.MaxIDBytes+1) },
		"an id with a slash":   func(r *pb.PrepareRequest) { r.Branch.Id = "a/b" },
		"an id of dots":        func(r *pb.PrepareRequest) { r.Branch.Id = ".." },
		"an id with a newline": func(r *pb.PrepareRequest) { r.Branch.Id = "a\n" },
		"no attempt":           func(r *pb.PrepareRequest) { r.Branch.Attempt = nil },
		"sequence 0":           func(r *pb.PrepareRequest) { r.Branch.Attempt.Sequence = 0 },
		"an attempt of a term that is to come": func(r *pb.PrepareRequest) {
			r.Branch.Attempt.Term = r.Fence.Term + 1
		},
		"a digest of 15 bytes": func(r *pb.PrepareRequest) { r.Branch.Digest = r.Branch.Digest[:15] },
		"no branch":            func(r *pb.PrepareRequest) { r.Branch = nil },
		"no fence":             func(r *pb.PrepareRequest) { r.Fence = nil },
		"term 0":               func(r *pb.PrepareRequest) { r.Fence.Term = 0 },
		"a payload of 64 KiB and a byte": func(r *pb.PrepareRequest) {
			r.Payload = bytes.Repeat([]byte(" "), fsm.MaxPayloadBytes+1)
			d := fsm.DigestOf(r.Payload)
			r.Branch.Digest = d[:]
		},
	} {
		req := t.prepareOf(t.fresh())
		spoil(req)
		v := t.tryPrepare(req)
		// Whatever else is wrong with a message for nobody may be said instead.
		if r := rpc.ReasonOf(v.err); r == rpc.ReasonWrongParticipant && (req.Branch == nil || req.Fence == nil) || r == rpc.ReasonWrongCluster && req.Fence == nil {
			continue
		}
		t.refusedWith("Prepare with "+name, v.err, rpc.ReasonInvalidArgument)
	}
}

func unknownPayload(t *trial) {
	for _, payload := range []string{"", "no json", `{"ops":[{"op":"frob","key":"a"}]}`, `{"ops":[{"op":"add","key":"a","delta":1.5}]}`} {
		b := t.fresh().with("", []byte(payload))
		v := t.vote(b)
		if rpc.ReasonOf(v.err) == rpc.ReasonInvalidArgument {
			continue
		}
		if v.err != nil || v.kind != pb.Vote_VOTE_ABORTED || v.code != pb.Reason_INVALID {
			t.fail("Prepare of the payload "+payload, "VOTE_ABORTED(INVALID)", "%s", v)
		}
	}
}

func largePayload(t *trial) {
	b := t.fresh()
	b.id = strings.Repeat("i", fsm.MaxIDBytes-len(b.id)) + b.id
	// White space before JSON means nothing, but has to travel and be hashed.
	b = b.with(b.key, append(bytes.Repeat([]byte(" "), fsm.MaxPayloadBytes-len(b.payload)), b.payload...))
	t.prepared(b)
	t.commit(b, done)
	t.effect(b.key, 1)
}

func hostileIDs(t *trial) {
	x := strings.Repeat("x", fsm.MaxIDBytes-1)
	ids := []string{ // those at even places are committed, the others rolled back
		"a", "p", "ab", "pq", "a.", "p.", "a.b", "p.q", "A", "P", "a-", "p-", "a_", "p_", "0", "1", "00", "11", "-", "_", x, x + "x",
	}
	branches := make([]branch, len(ids))
	for i, id := range ids {
		branches[i] = t.named(id, t.unique("k"))
		t.prepared(branches[i])
	}
	for i, b := range branches {
		// Not prepared once more before: that would make anew what another id took away.
		if i%2 == 0 {
			t.commit(b, done)
		} else {
			t.rollback(b, done)
		}
	}
	for i, b := range branches {
		t.superseded(b)
		t.effect(b.key, int64(1-i%2))
	}
}
