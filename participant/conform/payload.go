package conform

import (
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
)

// maxTemplateBytes leaves room for the longest key of the suite.
const maxTemplateBytes = fsm.MaxPayloadBytes - 1024

func checkTemplate(template string) error {
	switch n := len(template); {
	case !strings.Contains(template, keyMark):
		return rpc.FieldErrorf("payload", "a payload with "+keyMark+" in it, where each branch's own key goes", "one without")
	case n > maxTemplateBytes:
		return rpc.FieldErrorf("payload", fmt.Sprintf("at most %d bytes", maxTemplateBytes), "%d bytes", n)
	}
	return nil
}

// add is a payload that adds one to key and reads it.
func (s *session) add(key string) []byte {
	if s.cfg.Payload != "" {
		return []byte(strings.ReplaceAll(s.cfg.Payload, keyMark, key))
	}
	return kvop.Encode([]kvop.Op{{Kind: kvop.Add, Key: key, Delta: 1}, {Kind: kvop.Get, Key: key}})
}

// get is a payload that reads key.
func get(key string) []byte { return kvop.Encode([]kvop.Op{{Kind: kvop.Get, Key: key}}) }

// counted reads the result of a payload with one get: 0 if the key does not exist.
func counted(result []byte) (int64, error) {
	results, err := kvop.ParseResults(result)
	if err != nil {
		return 0, err
	}
	if len(results) != 1 {
		return 0, fmt.Errorf("%d results, want one for the one get", len(results))
	}
	if !results[0].Exists {
		return 0, nil
	}
	n, ok := results[0].Value.Number()
	if !ok {
		return 0, fmt.Errorf("the value of %s is no integer", results[0].Key)
	}
	return n, nil
}
