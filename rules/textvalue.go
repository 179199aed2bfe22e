package rules

import (
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// textOf is the one text form of what an expression came to. It agrees with
// appendText: a column that an expression hands on reads as if copied.
func textOf(v ref.Val) (string, error) {
	switch v := v.(type) {
	case types.String:
		return string(v), nil
	case types.Bool:
		return strconv.FormatBool(bool(v)), nil
	case types.Int:
		return strconv.FormatInt(int64(v), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10), nil
	case types.Double:
		return doubleText(float64(v)), nil
	case types.Bytes:
		return hex.EncodeToString(v), nil
	case types.Timestamp:
		return v.UTC().Format("2006-01-02T15:04:05.000000Z"), nil
	case types.Duration:
		return time.Duration(v.Duration).String(), nil
	case traits.Mapper:
		return "", errNoText
	case traits.Lister:
		return "", errors.New("a list has no text form here; take its elements, as in tags.map(t, lower(t))")
	}
	if err, ok := v.(*types.Err); ok {
		return "", err
	}
	return "", errors.New("the expression gave no text")
}

// doubleText prints as PostgreSQL's float8out does: the shortest digits that
// read back the same, with an exponent below 1e-4 and from 1e15 on.
func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e15) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
