package rules

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// tagByte reports whether a byte is written as it is in a tag. Edges carry tags in
// one response header, as printable ASCII, separated by commas (Cloudflare's and
// CloudFront's Cache-Tag) or spaces (Fastly's Surrogate-Key, xkey, which takes
// commas too); % begins an escape, so that two values never make one tag.
func tagByte(c byte) bool { return c > ' ' && c <= '~' && c != ',' && c != '%' }

// appendTag escapes a value for a tag: every byte that cannot be written as it is
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
func appendFor(kind invalidation.Kind, dst, text []byte) []byte {
	switch kind {
	case invalidation.Tag:
		return appendTag(dst, text)
	case invalidation.Field:
		return invalidation.EscapeField(dst, text)
	}
	return appendEscaped(dst, text)
}

// tagForms gives each sink the tags of a template in the form that it sends: as they are where they
// travel in no header, else with what comes from the row escaped. A template that goes to sinks of
// both forms becomes two.
func tagForms(templates []*template, sinks []SinkSpec) []*template {
	var out []*template
	for _, t := range templates {
		var raw, header []int
		for _, sink := range t.sinks {
			if sinks[sink].RawTags {
				raw = append(raw, sink)
			} else {
				header = append(header, sink)
			}
		}
		if len(raw) > 0 {
			one := *t
			one.sinks = raw
			out = append(out, &one)
		}
		if len(header) > 0 {
			one := *t
			one.sinks, one.parts = header, slices.Clone(t.parts)
			for i := range one.parts {
				one.parts[i].escape = one.parts[i].fills()
			}
			out = append(out, &one)
		}
	}
	return out
}

// tagFits refuses literal text of a tag that the sink's header cannot carry. A literal % is left alone: it
// begins an escape.
func (s *SinkSpec) tagFits(kind invalidation.Kind, literal []byte) error {
	if kind != invalidation.Tag || s.RawTags {
		return nil
	}
	for at := 0; at < len(literal); {
		r, size := utf8.DecodeRune(literal[at:])
		if r >= utf8.RuneSelf || !tagByte(byte(r)) && r != '%' {
			bad := literal[at : at+size]
			return fmt.Errorf("%q in the literal text has no place in a tag of %s, since edges separate tags by spaces or commas and take printable ASCII only; write %s, here and in the application",
				bad, s.Name, appendTag(nil, bad))
		}
		at += size
	}
	return nil
}

// literals is the text that the template has by itself.
func (t *template) literals() []byte {
	var out []byte
	for i := range t.parts {
		out = append(out, t.parts[i].literal...)
	}
	return out
}
