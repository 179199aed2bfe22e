package invalidation

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/walpurge/walpurge/cdc"
)

// fastPath reads a payload that encode wrote: the members in its order, without blanks.
// That takes one pass, where json.Unmarshal scans all for validity first, and reflects.
// What is not in that form sets notCanonical, which says nothing about whether it is JSON.
type fastPath struct {
	rest         string
	notCanonical bool
}

// readCanonical fills a payload with what json.Unmarshal would, or returns false.
func readCanonical(data []byte, p *payload) bool {
	if !utf8.Valid(data) || slices.ContainsFunc(data, func(c byte) bool { return c < ' ' }) {
		return false
	}
	r := fastPath{rest: string(data)}
	r.must(`{"v":`)
	p.V = int(r.number(31))
	r.must(`,"pipeline":`)
	p.Pipeline = r.text()
	r.must(`,"sink":`)
	p.Sink = r.text()
	r.must(`,"origin":`)
	p.Origin = r.text()
	r.must(`,"lsn":`)
	p.LSN = r.lsn()
	if r.has(`,"system_id":`) {
		p.SystemID = r.text()
	}
	if r.has(`,"timeline":`) {
		p.Timeline = uint32(r.number(32))
	}
	if r.has(`,"epoch":`) {
		p.Epoch = r.number(64)
	}
	r.must(`,"xids":`)
	p.XIDs = list(&r, (*fastPath).delta)
	r.must(`,"first_committed_at":`)
	p.First = r.time()
	r.must(`,"committed_at":`)
	p.Last = r.time()
	r.must(`,"items":[`)
	p.Items = []wireItem{}
	for more := !r.has(`]`); more; more = r.next() {
		p.Items = append(p.Items, wireItem{})
		r.item(&p.Items[len(p.Items)-1])
	}
	r.must(`,"flush":`)
	p.Flush = r.bool()
	if r.has(`,"reason":`) {
		p.Reason = r.text()
	}
	if r.has(`,"supersedes":`) {
		p.Supersedes = r.number(64)
	}
	r.must(`}`)
	return !r.notCanonical && r.rest == ""
}

func (r *fastPath) item(i *wireItem) {
	r.must(`{"rule":`)
	i.Rule = r.text()
	for _, k := range itemLayout.order {
		if !r.member(k.Plural()) {
			r.notCanonical = r.notCanonical || itemLayout.always.Has(k)
			continue
		}
		switch k.Form() {
		case FormText:
			i.Values[k] = list(r, (*fastPath).text)
		case FormField:
			var err error
			i.Values[k], err = joinFields(list(r, (*fastPath).field))
			r.notCanonical = r.notCanonical || err != nil
		case FormFlag:
			r.must(`true`)
			i.Values[k] = []string{""}
		}
	}
	if r.member(base64Member) {
		var byKind map[string][]string
		r.any(&byKind)
		r.notCanonical = itemLayout.addBase64(&i.Values, byKind, func(kind string) error { return &UnknownKindError{kind} }) != nil || r.notCanonical
	}
	if r.member("collapse") {
		var steps []wireStep
		r.any(&steps)
		i.setSteps(steps)
	}
	if r.member("every") {
		r.notCanonical = i.setEvery(r.text()) != nil || r.notCanonical
	}
	if r.member("unbuilt") {
		var all []unbuilt
		r.any(&all)
		i.Unbuilt = decodeUnbuilt(all)
	}
	r.must(`}`)
}

// member takes the name of a member and what stands around it, if it is the next.
func (r *fastPath) member(name string) bool {
	const before, after = `,"`, `":`
	if r.notCanonical || !strings.HasPrefix(r.rest, before) {
		return false
	}
	rest, found := strings.CutPrefix(r.rest[len(before):], name)
	if !found || !strings.HasPrefix(rest, after) {
		return false
	}
	r.rest = rest[len(after):]
	return true
}

// has takes a text if it is the next.
func (r *fastPath) has(text string) bool {
	rest, ok := strings.CutPrefix(r.rest, text)
	if ok {
		r.rest = rest
	}
	return ok && !r.notCanonical
}

func (r *fastPath) must(text string) {
	if !r.has(text) {
		r.notCanonical = true
	}
}

// next takes what stands between the elements of a list, or its end.
func (r *fastPath) next() bool {
	if r.has(`,`) {
		return true
	}
	r.must(`]`)
	return false
}

// text takes a string. It is part of the payload, unless it has an escape.
func (r *fastPath) text() string {
	r.must(`"`)
	n := strings.IndexByte(r.rest, '"')
	if n < 0 || r.notCanonical {
		r.notCanonical = true
		return ""
	}
	out := r.rest[:n]
	if strings.IndexByte(out, '\\') >= 0 {
		return r.escaped()
	}
	r.rest = r.rest[n+1:]
	return out
}

// escaped takes a string with escapes, whose first quote is taken.
func (r *fastPath) escaped() (out string) {
	end := 0
	for end < len(r.rest) && r.rest[end] != '"' {
		if r.rest[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(r.rest) || json.Unmarshal([]byte(`"`+r.rest[:end+1]), &out) != nil {
		r.notCanonical = true
		return ""
	}
	r.rest = r.rest[end+1:]
	return out
}

// field takes a field of a hash.
func (r *fastPath) field() (f field) {
	r.must(`{"key":`)
	f.Key = r.text()
	r.must(`,"field":`)
	f.Field = r.text()
	f.Base64 = r.has(`,"base64":true`)
	r.must(`}`)
	return f
}

// list takes a list of what one element is read by.
func list[T any](r *fastPath, element func(*fastPath) T) []T {
	r.must(`[`)
	if r.has(`]`) {
		return []T{}
	}
	out := make([]T, 0, r.room())
	for more := true; more; more = r.next() {
		out = append(out, element(r))
	}
	return out
}

// room is about how many elements the rest of a list has. A bracket in a value makes it
// too small, which costs a copy.
func (r *fastPath) room() int {
	list, _, _ := strings.Cut(r.rest, "]")
	return strings.Count(list, ",") + 1
}

// number takes a whole number of at most so many bits.
func (r *fastPath) number(bits int) uint64 {
	n := 0
	for n < len(r.rest) && '0' <= r.rest[n] && r.rest[n] <= '9' {
		n++
	}
	out, err := strconv.ParseUint(r.rest[:n], 10, bits)
	r.notCanonical = r.notCanonical || err != nil || n > 1 && r.rest[0] == '0'
	r.rest = r.rest[n:]
	return out
}

// delta takes a whole number that may be negative.
func (r *fastPath) delta() int64 {
	if r.has(`-`) {
		return -int64(r.number(63))
	}
	return int64(r.number(63))
}

func (r *fastPath) bool() bool {
	if r.has(`true`) {
		return true
	}
	r.must(`false`)
	return false
}

func (r *fastPath) lsn() cdc.LSN {
	at, err := cdc.ParseLSN(r.text())
	r.notCanonical = r.notCanonical || err != nil
	return at
}

func (r *fastPath) time() time.Time {
	var at time.Time
	r.must(`"`)
	text, rest, _ := strings.Cut(r.rest, `"`)
	r.rest = rest
	r.notCanonical = r.notCanonical || at.UnmarshalText([]byte(text)) != nil
	return at
}

// any takes a member that is rare. What this version does not know in it is not in our form.
func (r *fastPath) any(into any) {
	d := json.NewDecoder(strings.NewReader(r.rest))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		r.notCanonical = true
		return
	}
	r.rest = r.rest[d.InputOffset():]
}
