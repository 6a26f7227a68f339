package kv

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestOperations(t *testing.T) {
	s := testStore(t, newPath(t))
	runTx(t, s, work("seed", 1, ops(put("text", `"x"`)+`,`+put("number", `5`)+`,`+put("list", `[1,"a"]`))))
	maxInt, minInt := strconv.Itoa(math.MaxInt64), strconv.Itoa(math.MinInt64)
	tests := []struct {
		name, ops string
		code      pb.Reason_Code // 0: prepared
		want      string         // result, or text of the reason
	}{
		{"get", get("text") + `,` + get("nothing"), 0, `{"results":[{"key":"text","exists":true,"value":"x"},{"key":"nothing","exists":false}]}`},
		{"reads its writes", put("a", `1`) + `,` + add("a", 2) + `,` + get("a") + `,{"op":"delete","key":"a"},` + get("a"), 0,
			`{"results":[{"key":"a","exists":true,"value":3},{"key":"a","exists":false}]}`},
		{"append", `{"op":"append","key":"list","values":[2,"b"]},` + get("list"), 0, `{"results":[{"key":"list","exists":true,"value":[1,"a",2,"b"]}]}`},
		{"append makes a list", `{"op":"append","key":"new","value":1},` + get("new"), 0, `{"results":[{"key":"new","exists":true,"value":[1]}]}`},
		{"add from nothing", add("new", -3) + `,` + get("new"), 0, `{"results":[{"key":"new","exists":true,"value":-3}]}`},
		{"no gets", add("new", 1), 0, ``},
		{"check holds", `{"op":"check","key":"text","equals":"x"},{"op":"check","key":"new","exists":false},{"op":"check","key":"list","equals":[1,"a"]}`, 0, ``},
		{"check differs", `{"op":"check","key":"number","equals":6}`, pb.Reason_CONDITION, `check key "number": found 5, expected 6`},
		{"check of another type", `{"op":"check","key":"number","equals":"5"}`, pb.Reason_CONDITION, `found 5, expected "5"`},
		{"check missing", `{"op":"check","key":"new","exists":true}`, pb.Reason_CONDITION, `check key "new": found nothing`},
		{"check existing", `{"op":"check","key":"text","exists":false}`, pb.Reason_CONDITION, `found "x"`},
		{"minimum", `{"op":"add","key":"number","delta":-6,"min":0}`, pb.Reason_CONDITION, `add to key "number": found 5, adding -6 gives less than the minimum 0`},
		{"maximum", `{"op":"add","key":"number","delta":6,"max":10}`, pb.Reason_CONDITION, `found 5, adding 6 gives more than the maximum 10`},
		{"at the bounds", `{"op":"add","key":"number","delta":-5,"min":0},{"op":"add","key":"number","delta":5,"max":5}`, 0, ``},
		{"overflow", `{"op":"add","key":"number","delta":` + maxInt + `}`, pb.Reason_CONDITION, `overflows 64 bits`},
		{"underflow", `{"op":"add","key":"number","delta":-6},{"op":"add","key":"number","delta":` + minInt + `}`, pb.Reason_CONDITION, `overflows 64 bits`},
		{"add to a string", add("text", 1), pb.Reason_CONDITION, `add to key "text": found "x", which is no integer`},
		{"append to an integer", `{"op":"append","key":"number","value":1}`, pb.Reason_CONDITION, `append to key "number": found 5, which is no list`},
		{"invalid", `{"op":"add","key":"number","delta":1.5}`, pb.Reason_INVALID, `ops[0].delta`},
		{"result too large", strings.TrimSuffix(strings.Repeat(put("big", `"`+strings.Repeat("v", 16000)+`"`)+`,`, 1)+strings.Repeat(get("big")+`,`, 5), ","),
			pb.Reason_CONDITION, `65536`},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := work("t"+strconv.Itoa(i), uint64(i+2), ops(tt.ops))
			if tt.code == 0 {
				if got := string(prepared(t, s, w).Result); got != tt.want {
					t.Errorf("result %s, want %s", got, tt.want)
				}
			} else if v := aborted(t, s, w, tt.code); !strings.Contains(v.Message, tt.want) {
				t.Errorf("message %q, want %q", v.Message, tt.want)
			}
			rollback(t, s, w)
			if n := s.Locks(); n != 0 {
				t.Errorf("%d locks are left", n)
			}
			if got := value(t, s, "number"); got != "5" {
				t.Errorf("number is %s after a rollback", got)
			}
		})
	}
}

func TestListGrowsToItsLimitOnly(t *testing.T) {
	s := testStore(t, newPath(t))
	chunk := `{"op":"append","key":"list","value":"` + strings.Repeat("v", 16000) + `"}`
	n := uint64(0)
	for {
		n++
		w := work("t"+strconv.FormatUint(n, 10), n, ops(chunk))
		if v := vote(t, s, w); v.Kind == pb.Vote_VOTE_ABORTED {
			if v.Code != pb.Reason_CONDITION || !strings.Contains(v.Message, "262144 bytes") {
				t.Errorf("got %v %s", v.Code, v.Message)
			}
			break
		}
		commit(t, s, w)
	}
	if n != 17 {
		t.Errorf("append %d was refused, want 17", n)
	}
}
