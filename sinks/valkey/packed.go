package valkey

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// unpack returns what a member of a set can mean: itself, and the text in it where it is one that
// phpredis has serialized (Redis::OPT_SERIALIZER: php, json, igbinary or msgpack). known is false for
// bytes that are neither text nor one of those forms, such as a member that was compressed.
func unpack(member string) (texts []string, known bool) {
	for _, read := range []func(string) (string, bool){phpText, jsonText, igbinaryText, msgpackText} {
		if text, ok := read(member); ok {
			return []string{member, text}, true
		}
	}
	return []string{member}, isText(member)
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' })
}

// phpText reads s:3:"abc"; with the length in bytes (PHP, serialize).
func phpText(s string) (text string, ok bool) {
	length, rest, ok := strings.Cut(strings.TrimPrefix(s, "s:"), ":")
	if !ok || !strings.HasPrefix(s, "s:") || len(rest) < 3 || rest[0] != '"' || !strings.HasSuffix(rest, `";`) {
		return "", false
	}
	text = rest[1 : len(rest)-2]
	return text, length == strconv.Itoa(len(text))
}

func jsonText(s string) (text string, ok bool) {
	ok = strings.HasPrefix(s, `"`) && json.Unmarshal([]byte(s), &text) == nil
	return text, ok
}

// igbinaryText reads a string behind the header of version 1 or 2 (igbinary, igbinary_type_string8 to 32).
func igbinaryText(s string) (text string, ok bool) {
	if !strings.HasPrefix(s, "\x00\x00\x00\x01") && !strings.HasPrefix(s, "\x00\x00\x00\x02") || len(s) < 5 {
		return "", false
	}
	return lengthFirst(s[4], s[5:], 0x11, 0x12, 0x13)
}

// msgpackText reads a fixstr or a str 8 to 32 (MessagePack specification).
func msgpackText(s string) (text string, ok bool) {
	if s == "" {
		return "", false
	}
	if s[0]&0xe0 == 0xa0 {
		return s[1:], len(s)-1 == int(s[0]&0x1f)
	}
	return lengthFirst(s[0], s[1:], 0xd9, 0xda, 0xdb)
}

// lengthFirst reads a text behind its length, of one, two or four bytes by its type.
func lengthFirst(typ byte, rest string, one, two, four byte) (text string, ok bool) {
	size := map[byte]int{one: 1, two: 2, four: 4}[typ]
	if size == 0 || len(rest) < size {
		return "", false
	}
	var length [4]byte
	copy(length[4-size:], rest[:size])
	text = rest[size:]
	return text, uint32(len(text)) == binary.BigEndian.Uint32(length[:])
}
