package stream

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// texts is a list of strings that is read at the cost of one copy where, as
// nearly always, no string has an escape.
type texts []string

// UnmarshalJSON implements json.Unmarshaler; data is valid JSON.
func (t *texts) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '[' || bytes.IndexByte(data, '\\') >= 0 || !utf8.Valid(data) {
		return json.Unmarshal(data, (*[]string)(t))
	}
	all := string(data)
	out := make(texts, 0, bytes.Count(data, []byte{','})+1)
	for i := 1; i < len(all); {
		switch all[i] {
		case '"':
			n := bytes.IndexByte(data[i+1:], '"')
			if n < 0 {
				return json.Unmarshal(data, (*[]string)(t))
			}
			out = append(out, all[i+1:i+1+n])
			i += n + 2
		case ',', ' ', '\t', '\r', '\n', ']':
			i++
		default: // no string
			return json.Unmarshal(data, (*[]string)(t))
		}
	}
	*t = out
	return nil
}

// deltas is a list of numbers that is read without reflection.
type deltas []int64

// UnmarshalJSON implements json.Unmarshaler; data is valid JSON.
func (d *deltas) UnmarshalJSON(data []byte) error {
	if len(data) < 2 || data[0] != '[' {
		return json.Unmarshal(data, (*[]int64)(d))
	}
	out := make(deltas, 0, bytes.Count(data, []byte{','})+1)
	for part := range bytes.SplitSeq(data[1:len(data)-1], []byte{','}) {
		if part = bytes.TrimSpace(part); len(part) == 0 {
			continue
		}
		n, err := strconv.ParseInt(string(part), 10, 64)
		if err != nil {
			return json.Unmarshal(data, (*[]int64)(d))
		}
		out = append(out, n)
	}
	*d = out
	return nil
}
