package sqlbranch

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

func drawRef(t *rapid.T, label string) participant.Ref {
	return participant.Ref{
		ID: rapid.StringMatching(`[A-Za-z0-9._-]{0,12}[A-Za-z0-9_-][A-Za-z0-9._-]{0,35}`).Draw(t, label+" id"),
		Attempt: rpc.Attempt{
			Generation: rapid.Uint32().Draw(t, label+" generation"), Term: rapid.Uint64().Draw(t, label+" term"),
			Sequence: rapid.Uint64().Draw(t, label+" sequence"),
		},
		Digest: rpc.Digest(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label+" digest")),
	}
}

func drawOwner(t *rapid.T, label string) Owner {
	return Owner{
		Cluster:     rapid.StringMatching(`[a-z0-9]{1,4}`).Draw(t, label+" cluster"),
		Participant: rapid.StringMatching(`[a-z0-9-]{1,6}`).Draw(t, label+" participant"),
	}
}

func TestNamesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine, other, ref := drawOwner(t, "my"), drawOwner(t, "other"), drawRef(t, "a")
		want := Ours
		switch {
		case mine.Cluster != other.Cluster:
			want = OtherCluster
		case mine.Participant != other.Participant:
			want = OtherParticipant
		}
		gid := other.GID(ref)
		if got, kin := mine.ParseGID(gid); kin != want || kin == Ours && got != ref {
			t.Fatalf("%s reads back as %+v, %d; want %d", gid, got, kin, want)
		}
		if ours := strings.HasPrefix(gid, mine.GIDPrefix()); ours != (want == Ours) {
			t.Fatalf("%s begins with %s: %v", gid, mine.GIDPrefix(), ours)
		}
		gtrid, bqual := other.XID(ref)
		if got, kin := mine.ParseXID(gtrid, bqual); kin != want || kin == Ours && got != ref {
			t.Fatalf("%x %x reads back as %+v, %d; want %d", gtrid, bqual, got, kin, want)
		}
		if ours := bytes.HasPrefix(bqual, mine.BqualPrefix()); ours != (want == Ours) {
			t.Fatalf("%x begins with %x: %v", bqual, mine.BqualPrefix(), ours)
		}
	})
}

// Two branches never have one name, nor one that a cut at another place would give (P16).
func TestNamesAreUnambiguous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, a, b := drawOwner(t, "my"), drawRef(t, "a"), drawRef(t, "b")
		b.Digest = a.Digest
		if rapid.Bool().Draw(t, "same attempt") {
			b.Attempt = a.Attempt
		}
		if rapid.Bool().Draw(t, "longer id") && len(a.ID) < 40 {
			b.ID = a.ID + rapid.SampledFrom([]string{".", "-", "_", "0"}).Draw(t, "more")
		}
		aTrid, aQual := o.XID(a)
		bTrid, bQual := o.XID(b)
		if same := bytes.Equal(aTrid, bTrid) && bytes.Equal(aQual, bQual); same != (a == b) || (o.GID(a) == o.GID(b)) != (a == b) {
			t.Fatalf("%+v and %+v have the names %s and %s", a, b, o.GID(a), o.GID(b))
		}
		if (o.SessionName(a) == o.SessionName(b)) != (a.ID == b.ID && a.Attempt == b.Attempt) {
			t.Fatalf("%+v and %+v have the sessions %s and %s", a, b, o.SessionName(a), o.SessionName(b))
		}
	})
}

func TestNamesFit(t *testing.T) {
	o := Owner{Cluster: strings.Repeat("c", 64), Participant: strings.Repeat("p", 64)}
	ref := participant.Ref{
		ID: strings.Repeat("i", 48), Digest: rpc.Digest(bytes.Repeat([]byte{255}, 16)),
		Attempt: rpc.Attempt{Generation: math.MaxUint32, Term: math.MaxUint64, Sequence: math.MaxUint64},
	}
	gid := o.GID(ref)
	if len(gid) > 199 || !regexp.MustCompile(`^[A-Za-z0-9._:-]+$`).MatchString(gid) {
		t.Errorf("%d bytes: %s", len(gid), gid)
	}
	if got, kin := o.ParseGID(gid); kin != Ours || got != ref {
		t.Errorf("%s reads back as %+v, %d", gid, got, kin)
	}
	gtrid, bqual := o.XID(ref)
	if len(gtrid) > 64 || len(bqual) > 64 {
		t.Errorf("%d and %d bytes", len(gtrid), len(bqual))
	}
	if n := len(o.SessionName(ref)); n > 63 {
		t.Errorf("the session's name has %d bytes", n)
	}
}

func TestForeignNames(t *testing.T) {
	o := Owner{Cluster: "c", Participant: "seats"}
	good := o.GID(refOf(1, 1))
	for _, gid := range []string{
		"", "a", "concordat", "concordat:", good + ":x", good[1:], good[:len(good)-1] + "~", strings.Replace(good, "1.1.1", "1.1.01", 1),
		strings.Replace(good, "1.1.1", "1.1", 1), strings.Replace(good, ":seats:", ":Seats:", 1), strings.Replace(good, "AQAA", "AQA", 1),
		strings.ToUpper(good),
	} {
		if ref, kin := o.ParseGID(gid); kin != Foreign {
			t.Errorf("%q is %d, %+v", gid, kin, ref)
		}
	}
	gtrid, bqual := o.XID(refOf(1, 1))
	for _, x := range [][2][]byte{
		{nil, nil}, {gtrid, nil}, {gtrid, bqual[1:]}, {gtrid, append(bytes.Clone(bqual), 0)}, {gtrid[1:], bqual},
		{append([]byte("å"), gtrid...), bqual}, {gtrid, append([]byte("CNCD"), bqual[4:]...)},
	} {
		if ref, kin := o.ParseXID(x[0], x[1]); kin != Foreign {
			t.Errorf("%x %x is %d, %+v", x[0], x[1], kin, ref)
		}
	}
}
