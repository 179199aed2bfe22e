package cdc

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte offset in PostgreSQL's write-ahead log. Zero means "none".
type LSN uint64

// String prints the LSN as PostgreSQL does: two hexadecimal halves, 16/B374D848.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// ParseLSN reads PostgreSQL's text form. Both halves are required.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers with a slash, like 16/B374D848", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: %q is not a 32-bit hexadecimal number", s, hi)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: %q is not a 32-bit hexadecimal number", s, lo)
	}
	return LSN(h<<32 | l), nil
}

// MarshalJSON writes the text form.
func (l LSN) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// UnmarshalJSON reads the text form.
func (l *LSN) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := ParseLSN(s)
	if err != nil {
		return err
	}
	*l = v
	return nil
}
