package invalidation

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Encode writes a batch as the payload of a message, without the copies and the reflection of the
// JSON library. It is called for every batch, and most of a batch are values that need no escape.
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
	version := 1
	add := func(v *Values) {
		for k := range v {
			if len(v[k]) > 0 {
				version = max(version, table[k].since)
			}
		}
	}
	for i := range b.Items {
		add(&b.Items[i].Values)
		for n := range b.Items[i].Coarser {
			add(&b.Items[i].Coarser[n].Values)
		}
	}
	return version
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

func appendItem(out []byte, item *Item) ([]byte, error) {
	out = appendText(append(out, `{"rule":`...), item.Rule)
	out = itemLayout.Append(out, &item.Values)
	for i := range item.Coarser {
		out = append(out, [...]string{`,"collapse":[`, `,`}[min(i, 1)]...)
		out = strconv.AppendInt(append(out, `{"over":`...), int64(item.Coarser[i].Over), 10)
		out = append(stepLayout.Append(out, &item.Coarser[i].Values), '}')
	}
	if len(item.Coarser) > 0 {
		out = append(out, ']')
	}
	if item.Every > 0 {
		out = appendText(append(out, `,"every":`...), item.Every.String())
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
