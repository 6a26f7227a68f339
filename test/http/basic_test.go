package http

import (
	"net/http"
	"testing"
)

func TestSubmitAndGet(t *testing.T) {
	w := newWorld(t, "a", "b")
	for _, i := range []int{w.leader(), w.follower()} {
		r := w.send(i, http.MethodPost, "/v1/transactions", nil,
			`{"branches":[{"participant":"a","payload":{"ops":[{"op":"put","key":"k","value":9223372036854775807},{"op":"get","key":"k"}]}}]}`)
		t.Log(r.status, r.header, r.body)
		id := r.json(t)["id"].(string)
		r = w.send(i, http.MethodGet, "/v1/transactions/"+id, nil, "")
		t.Log(r.status, r.header, r.body)
	}
}
