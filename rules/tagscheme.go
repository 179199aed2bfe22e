package rules

import (
	"fmt"
	"unicode/utf8"
)

// tagByte reports whether a byte stands for itself in a tag. Edges carry tags in
// one response header, as printable ASCII, separated by commas (Cloudflare's and
// CloudFront's Cache-Tag) or spaces (Fastly's Surrogate-Key, xkey, which takes
// commas too); % begins an escape, so that two values never make one tag.
func tagByte(c byte) bool { return c > ' ' && c <= '~' && c != ',' && c != '%' }

// appendTag escapes a value for a tag: every byte that cannot stand for itself
// becomes % and two upper-case hexadecimal digits.
func appendTag(dst, text []byte) []byte {
	for _, c := range text {
		if tagByte(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// appendFor escapes a value for the place that it lands in.
func appendFor(kind Kind, dst, text []byte) []byte {
	if kind == Tag {
		return appendTag(dst, text)
	}
	return appendEscaped(dst, text)
}

// tagFrame has the values of a tag escaped, and refuses literal text that no
// header can carry. A literal % is left alone: whoever writes one has escaped.
func (t *template) tagFrame() error {
	for i := range t.parts {
		p := &t.parts[i]
		if p.fills() {
			p.escape = true
			continue
		}
		for at, r := range p.literal {
			if r < utf8.RuneSelf && (tagByte(byte(r)) || r == '%') {
				continue
			}
			_, size := utf8.DecodeRuneInString(p.literal[at:])
			bad := p.literal[at : at+size]
			return fmt.Errorf("%q in the literal text has no place in a tag, since edges separate tags by spaces or commas and take printable ASCII only; write %s, here and in the application",
				bad, appendTag(nil, []byte(bad)))
		}
	}
	return nil
}
