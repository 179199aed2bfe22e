package invalidation

import "bytes"

// MaxValue is the longest value in bytes that any sink is sent, whatever the sink itself takes.
// A message of the stream can hold it even where JSON writes each byte as six: NATS refuses
// messages above 1 MiB unless it is configured otherwise.
const MaxValue = 64 << 10

// Caps are the lengths in bytes above which a sink takes no value of a kind, counted as the value
// is sent: escapes included.
type Caps struct {
	// Bytes has a cap for each kind; 0 is MaxValue.
	Bytes [NumKinds]int
	// PathOnly is set where scheme and host of a URL, and the host of a URL prefix, are not sent
	// and so do not count.
	PathOnly bool
}

// Of is the cap of a kind.
func (c *Caps) Of(k Kind) int {
	if n := c.Bytes[k]; n > 0 {
		return n
	}
	return MaxValue
}

// Fits reports whether a value is short enough.
func (c *Caps) Fits(k Kind, value []byte) bool {
	limit := c.Of(k)
	if len(value) <= limit || len(value) > MaxValue || !c.PathOnly {
		return len(value) <= limit
	}
	return len(value)-hostLen(k, value) <= limit
}

// hostLen is the length of what stands before the path of a URL or URL prefix.
func hostLen(k Kind, value []byte) int {
	from := 0
	switch k {
	case URL:
		scheme := bytes.Index(value, []byte("://"))
		if scheme < 0 {
			return 0
		}
		from = scheme + len("://")
	case URLPrefix:
	default:
		return 0
	}
	end := bytes.IndexAny(value[from:], "/?")
	if end < 0 {
		return len(value)
	}
	return from + end
}
