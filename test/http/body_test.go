package http

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// bodyOf is a body for a route, or one for another, mutated at times.
func (g *generator) bodyOf(p pattern) string {
	make := p.body
	if make == nil || g.rarely(30) {
		make = pick(g, (*generator).submit, (*generator).abort, (*generator).resolve, (*generator).participant, (*generator).empty, (*generator).anything)
	}
	body := []byte(make(g))
	for g.rarely(6) && len(body) > 0 {
		at := g.IntN(len(body))
		switch g.IntN(5) {
		case 0:
			body[at] = byte(g.IntN(256))
		case 1:
			body = append(body[:at:at], body[at+1:]...)
		case 2:
			body = body[:at]
		case 3:
			body = append(body[:at:at], append([]byte(pick(g, "{", "}", "[", "]", ",", ":", `"`, `\`, `\u0000`, `\ud800`, "null", "1e400", "-", "\xff", "\ufeff", " ", "\n")), body[at:]...)...)
		default:
			body = append(body, body[at:]...)
		}
	}
	return string(body)
}

func (g *generator) empty() string { return pick(g, "", "", "{}", " {} ", "[]", "null", `{"id": "x"}`) }

func (g *generator) submit() string {
	var branches []string
	for _, name := range []string{"a", "b", "spare", "nobody", "A"}[:pick(g, 1, 1, 2, 2, 2, 3, 5)] {
		branches = append(branches, fmt.Sprintf(`{"participant": %s, "payload": %s}`, g.text(name), g.payload()))
	}
	if g.rarely(40) {
		branches = nil
	}
	fields := []string{`"branches": [` + strings.Join(branches, ", ") + `]`}
	optional := []string{
		`"id": ` + g.text(g.id()), `"wait": ` + pick(g, `"DECIDED"`, `"COMPLETED"`, `"completed"`, "1", "null"), `"timeout": ` + pick(g, `"1s"`, `"50ms"`, `"60s"`, `"0s"`, `"61s"`, `"1e3s"`, "5", `"-1s"`),
		`"since": ` + g.number(), `"retry_of": ` + g.text(g.id()), `"ID": "x"`, `"": ""`,
	}
	for i, f := range optional {
		if g.rarely(2 + 2*i) {
			fields = append(fields, f)
		}
	}
	g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return "{" + strings.Join(fields, ",") + "}"
}

func (g *generator) payload() string {
	if g.rarely(10) {
		return g.anything()
	}
	var ops []string
	for range 1 + g.IntN(3) {
		op := pick(g, "get", "put", "add", "delete", "append", "check", "get", "put", "drop")
		fields := []string{`"op": ` + g.text(op), `"key": ` + g.text(pick(g, "k", "l", "m", "", strings.Repeat("k", 2000)))}
		switch op {
		case "put":
			fields = append(fields, `"value": `+g.value())
		case "add":
			fields = append(fields, `"delta": `+g.number())
			if g.rarely(2) {
				fields = append(fields, pick(g, `"min": `, `"max": `)+g.number())
			}
		case "append":
			fields = append(fields, pick(g, `"value": `+g.value(), `"values": [`+g.value()+`]`))
		case "check":
			fields = append(fields, pick(g, `"exists": true`, `"exists": false`, `"equals": `+g.value()))
		}
		if g.rarely(30) {
			fields = append(fields, pick(g, fields...))
		}
		ops = append(ops, "{"+strings.Join(fields, ", ")+"}")
	}
	return `{"ops": [` + strings.Join(ops, ", ") + `]}`
}

// text is a JSON string, or rarely something else.
func (g *generator) text(s string) string {
	if g.rarely(60) {
		return pick(g, "null", "1", "[]", "{}", "true", `"\ud800"`, `"\u0000"`)
	}
	return `"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`, "\x00", `\u0000`).Replace(s) + `"`
}

func (g *generator) number() string {
	if g.rarely(3) {
		return pick(g, "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1.5", "1e3", "-0", "01", `"7"`, "1e400", "")
	}
	return strconv.Itoa(g.IntN(20) - 10)
}

func (g *generator) value() string {
	return pick(g, g.number(), g.text("v"), "["+g.number()+", "+g.text("w")+"]", "[]", "[[]]", "null", "true", `"`+strings.Repeat("x", g.IntN(3000))+`"`)
}

func (g *generator) abort() string {
	return pick(g, "", "{}", `{"message": "left"}`, `{"since": `+g.number()+`}`, `{"message": "`+strings.Repeat("m", 513)+`"}`, `{"message": "\n\u001b[31m"}`)
}

func (g *generator) resolve() string {
	return pick(g, `{"acknowledge": true}`, `{"give_up": ["a"]}`, `{"give_up": ["a", "a", "nobody"], "operator": "ann"}`, "{}", `{"give_up": "a"}`, `{"acknowledge": true, "operator": "\n[ERROR] forged"}`)
}

func (g *generator) participant() string {
	return fmt.Sprintf(`{"name": %s, "endpoints": [%s]%s}`, g.text(g.name()), g.text(pick(g, append(slices.Clone(g.addresses), "nowhere", "127.0.0.1:1", ":1", "[::1]:99999", "unix:/x", "dns:///localhost:1", "")...)),
		pick(g, "", "", `, "accept_incarnation": true`, `, "x": 1`))
}

// transfer moves the leadership rarely: the cluster needs a moment after it.
func (g *generator) transfer() string {
	if !g.rarely(20) {
		return pick(g, `{"node": "n9"}`, `{"node": 1}`, `{"from": "n9"}`, `{"node": ""`, "[]")
	}
	return pick(g, "{}", `{"node": "n1"}`, `{"node": "n2"}`, `{"node": "n3"}`)
}

// anything is any JSON, nested as deep as chance will have it.
func (g *generator) anything() string {
	switch g.IntN(8) {
	case 0:
		return "[" + g.anything() + "," + g.anything() + "]"
	case 1:
		return `{"` + pick(g, "ops", "id", "branches", "a", "") + `": ` + g.anything() + "}"
	case 2:
		depth := pick(g, 10, 100, 9999, 10001, 30000)
		return strings.Repeat("[", depth) + strings.Repeat("]", depth)
	case 3:
		return g.number()
	case 4:
		return g.value()
	case 5:
		return `"` + strings.Repeat("x", pick(g, 1, 1000, 65536, 70000, 300000)) + `"`
	default:
		return pick(g, "null", "true", `""`, "[]", "{}")
	}
}
