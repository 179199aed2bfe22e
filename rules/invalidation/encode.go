package invalidation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Encode writes a batch as the payload of a message: what json.Marshal makes of
// a payload, byte for byte, without the copies and the reflection. It is called
// for every batch, and most of a batch are values that need no escape.
func Encode(pipeline string, b *Batch) ([]byte, error) {
	out := make([]byte, 0, roomFor(pipeline, b))
	out = strconv.AppendInt(append(out, `{"v":`...), int64(versionOf(b)), 10)
	out = append(out, `,"pipeline":`...)
	out = appendText(out, pipeline)
	out = appendText(append(out, `,"sink":`...), b.Sink)
	out = appendText(append(out, `,"origin":`...), string(b.Origin))
	at := b.Stamp.Position
	out = fmt.Appendf(out, `,"lsn":"%X/%X"`, uint32(at.LSN>>32), uint32(at.LSN))
	if at.SystemID != "" {
		out = appendText(append(out, `,"system_id":`...), at.SystemID)
	}
	out = appendNumber(out, `,"timeline":`, uint64(at.Timeline))
	out = appendNumber(out, `,"epoch":`, b.Stamp.Epoch)
	out = append(out, `,"xids":[`...)
	before := uint64(0)
	for i, x := range b.Stamp.XIDs {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(x-before), 10)
		before = x
	}
	var err error
	if out, err = appendTime(append(out, `],"first_committed_at":`...), b.Stamp.FirstCommit); err != nil {
		return nil, err
	}
	if out, err = appendTime(append(out, `,"committed_at":`...), b.Stamp.LastCommit); err != nil {
		return nil, err
	}
	out = append(out, `,"items":[`...)
	for i := range b.Items {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendItem(out, &b.Items[i]); err != nil {
			return nil, err
		}
	}
	out = strconv.AppendBool(append(out, `],"flush":`...), b.Flush)
	if b.Reason != "" {
		out = appendText(append(out, `,"reason":`...), b.Reason)
	}
	out = appendNumber(out, `,"supersedes":`, b.Supersedes)
	return append(out, '}'), nil
}

// versionOf is the lowest version whose readers carry out all that the batch names.
func versionOf(b *Batch) int {
	for i := range b.Items {
		if len(b.Items[i].Values[Field]) > 0 {
			return 2
		}
		for n := range b.Items[i].Coarser {
			if len(b.Items[i].Coarser[n].Values[Field]) > 0 {
				return 2
			}
		}
	}
	return 1
}

// roomFor is about what a batch takes, rather more.
func roomFor(pipeline string, b *Batch) int {
	room := 400 + len(pipeline) + len(b.Sink) + len(b.Reason) + 3*len(b.Stamp.XIDs)
	for i := range b.Items {
		room += 120 + len(b.Items[i].Rule)
		for _, values := range b.Items[i].Values {
			for _, v := range values {
				room += len(v) + 3
			}
		}
	}
	return room
}

// lists are the members of an item that are always there, by kind.
var lists = [...]struct {
	kind   Kind
	member string
}{
	{Key, `,"keys":[`}, {Tag, `,"tags":[`}, {URL, `,"urls":[`}, {URLPrefix, `,"url_prefixes":[`},
	{KeyPrefix, `,"key_prefixes":[`}, {Generation, `,"generations":[`},
}

func appendItem(out []byte, item *Item) ([]byte, error) {
	out = appendText(append(out, `{"rule":`...), item.Rule)
	notUTF8 := 0
	for _, l := range lists {
		var left int
		out, left = appendValues(append(out, l.member...), item.Values[l.kind])
		notUTF8 += left
	}
	if patterns := item.Values[KeyPattern]; len(patterns) > 0 {
		mark := len(out)
		var left int
		out, left = appendValues(append(out, `,"key_patterns":[`...), patterns)
		if notUTF8 += left; left == len(patterns) {
			out = out[:mark]
		}
	}
	for i, f := range encodeFields(item.Values[Field]) {
		out = append(out, [...]string{`,"fields":[`, `,`}[min(i, 1)]...)
		out = appendText(append(out, `{"key":`...), f.Key)
		out = appendText(append(out, `,"field":`...), f.Field)
		if f.Base64 {
			out = append(out, `,"base64":true`...)
		}
		out = append(out, '}')
	}
	if len(item.Values[Field]) > 0 {
		out = append(out, ']')
	}
	if len(item.Values[Everything]) > 0 {
		out = append(out, `,"everything":true`...)
	}
	if notUTF8 > 0 {
		raw, err := json.Marshal(inBase64(&item.Values))
		if err != nil {
			return nil, err
		}
		out = append(append(out, `,"base64":`...), raw...)
	}
	if len(item.Coarser) > 0 {
		raw, err := json.Marshal(encodeCoarser(item.Coarser))
		if err != nil {
			return nil, err
		}
		out = append(append(out, `,"collapse":`...), raw...)
	}
	if item.Every > 0 {
		out = appendText(append(out, `,"every":`...), period(item.Every))
	}
	if len(item.Unbuilt) > 0 {
		raw, err := json.Marshal(encodeUnbuilt(item.Unbuilt))
		if err != nil {
			return nil, err
		}
		out = append(append(out, `,"unbuilt":`...), raw...)
	}
	return append(out, '}'), nil
}

// appendValues writes a list and its end, without the values that are not UTF-8,
// of which it returns the number.
func appendValues(out []byte, values []string) (_ []byte, notUTF8 int) {
	first := true
	for _, v := range values {
		if !plain(v) && !utf8.ValidString(v) {
			notUTF8++
			continue
		}
		if !first {
			out = append(out, ',')
		}
		out, first = appendText(out, v), false
	}
	return append(out, ']'), notUTF8
}

// inBase64 are the values that are not UTF-8, by kind.
func inBase64(all *[NumKinds][]string) map[string][]string {
	out := make(map[string][]string)
	for k, values := range all {
		kind := Kind(k)
		if kind == Everything || kind == Field {
			continue
		}
		for _, v := range values {
			if !utf8.ValidString(v) {
				out[kind.String()] = append(out[kind.String()], base64.StdEncoding.EncodeToString([]byte(v)))
			}
		}
	}
	return out
}

// plain reports that a text stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func appendText(out []byte, s string) []byte {
	if plain(s) {
		return append(append(append(out, '"'), s...), '"')
	}
	raw, _ := json.Marshal(s) // a string never fails
	return append(out, raw...)
}

// appendNumber writes a member unless it is 0.
func appendNumber(out []byte, member string, n uint64) []byte {
	if n == 0 {
		return out
	}
	return strconv.AppendUint(append(out, member...), n, 10)
}

func appendTime(out []byte, t time.Time) ([]byte, error) {
	out, err := t.UTC().AppendText(append(out, '"'))
	return append(out, '"'), err
}
