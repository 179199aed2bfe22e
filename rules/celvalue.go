package rules

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/cdc"
)

// Type OIDs that have a text form or a CEL type of their own (PostgreSQL,
// src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
	oidBpchar      = 1042
)

// celValue types a known value. A text that its type's reader does not take
// (an infinite timestamp, say) stays a string. An array that cannot be read is an error, which
// makes what depends on it unknown. The result owns its bytes.
func celValue(v cdc.Value, t *columnType) ref.Val {
	if v.Kind == cdc.Null {
		return types.NullValue
	}
	if t.elem != nil {
		return celArray(bytes.Clone(v.Data), t)
	}
	switch {
	case len(v.Data) > maxOperand:
		return types.WrapErr(errLongOperand)
	case len(v.Data) > maxJSON && (t.OID == oidJSON || t.OID == oidJSONB):
		return types.WrapErr(errLongJSON)
	case (t.OID == oidJSON || t.OID == oidJSONB) && bytes.Count(v.Data, []byte(",")) > maxElements:
		return types.WrapErr(errElements)
	}
	text := string(v.Data)
	switch t.OID {
	case oidBpchar:
		return types.String(strings.TrimRight(text, " "))
	case oidBool:
		return types.Bool(text == "t")
	case oidInt2, oidInt4, oidInt8:
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return types.Int(i)
		}
	case oidFloat4:
		// The value is the nearest single, as a double.
		if f, err := strconv.ParseFloat(text, 32); err == nil || f != 0 {
			return types.Double(f)
		}
	case oidFloat8, oidNumeric:
		// Beyond the range of a double ParseFloat gives an infinity with an
		// error; it still compares as the number would.
		if f, err := strconv.ParseFloat(text, 64); err == nil || f != 0 {
			return types.Double(f)
		}
	case oidJSON, oidJSONB:
		if x, ok := parseJSON(v.Data); ok {
			return types.DefaultTypeAdapter.NativeToValue(x)
		}
	case oidTimestamptz:
		if t, err := time.Parse("2006-01-02 15:04:05.999999999Z07", text); err == nil {
			return types.Timestamp{Time: t.UTC()}
		}
	case oidTimestamp:
		if t, err := time.Parse("2006-01-02 15:04:05.999999999", text); err == nil {
			return types.Timestamp{Time: t}
		}
	case oidDate:
		if t, err := time.Parse(time.DateOnly, text); err == nil {
			return types.Timestamp{Time: t}
		}
	}
	return types.String(text)
}

// parseJSON keeps integers exact: beyond 64 bits as their digits, which no
// comparison with a number takes, rather than as a number near to them.
func parseJSON(data []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var x any
	if err := d.Decode(&x); err != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	return numbers(x), true
}

func numbers(x any) any {
	switch x := x.(type) {
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i
		}
		if strings.Trim(string(x), "-0123456789") == "" {
			if u, err := strconv.ParseUint(string(x), 10, 64); err == nil {
				return u
			}
			return string(x)
		}
		f, _ := x.Float64()
		return f
	case map[string]any:
		for k := range x {
			x[k] = numbers(x[k])
		}
		return x
	case []any:
		for i := range x {
			x[i] = numbers(x[i])
		}
		return x
	}
	return x
}
