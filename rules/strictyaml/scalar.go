package strictyaml

import (
	"encoding"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	nodeType     = reflect.TypeFor[Node]()
)

func itoa(n int) string { return strconv.Itoa(n) }

func (d *decoder) scalar(n *Node, v reflect.Value) {
	want := wanted(v)
	if n.Kind != Scalar {
		d.fail(n, want)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if s, ok := d.text(n); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		switch {
		case !n.Quoted && isBool(n.Text):
			v.SetBool(strings.EqualFold(n.Text, "true"))
		case isTrap(n.Text):
			d.errs = append(d.errs, n.Errorf("%s is not a bool here; write true or false", n))
		default:
			d.fail(n, want)
		}
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.Text, v.Type().Bits())
		if err != nil || n.Quoted && !n.Expanded || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(n.Text, "xX_") {
			d.fail(n, want)
			return
		}
		v.SetFloat(f)
	default:
		d.integer(n, v, want)
	}
}

func (d *decoder) integer(n *Node, v reflect.Value, want string) {
	digits := strings.TrimPrefix(n.Text, "-")
	if n.Quoted && !n.Expanded || strings.HasPrefix(n.Text, "+") {
		d.fail(n, want)
		return
	}
	// YAML 1.1 reads 0755 as octal, YAML 1.2 as 755.
	if len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0123456789") == "" {
		d.errs = append(d.errs, n.Errorf("%s begins with a zero, which some readers of YAML take for octal; write the number without it", n))
		return
	}
	var err error
	if v.CanInt() {
		var i int64
		if i, err = strconv.ParseInt(n.Text, 10, v.Type().Bits()); err == nil {
			v.SetInt(i)
		}
	} else {
		var u uint64
		if u, err = strconv.ParseUint(n.Text, 10, v.Type().Bits()); err == nil {
			v.SetUint(u)
		}
	}
	if errors.Is(err, strconv.ErrRange) {
		d.errs = append(d.errs, n.Errorf("%s is too large or too small for this number", n))
	} else if err != nil {
		d.fail(n, want)
	}
}

// text takes a scalar as a string. A number keeps its spelling; a bare bool is
// refused, because the writer may have meant either.
func (d *decoder) text(n *Node) (string, bool) {
	switch {
	case n.Kind != Scalar:
		d.fail(n, "a text")
	case n.Quoted || n.Expanded:
		return n.Text, true
	case isTrap(n.Text):
		d.errs = append(d.errs, n.Errorf("bare %s is a bool to some readers of YAML and a text to others; quote it: %q", n.Text, n.Text))
	case isBool(n.Text):
		d.errs = append(d.errs, n.Errorf("%s is a bool, want a text; quote it: %q", n.Text, n.Text))
	default:
		return n.Text, true
	}
	return "", false
}

func (d *decoder) duration(n *Node, v reflect.Value) {
	const want = `a duration; write it like 500ms, 30s or 1h30m`
	if n.Kind != Scalar {
		d.fail(n, want)
		return
	}
	x, err := time.ParseDuration(n.Text)
	if err != nil {
		if _, err := strconv.ParseFloat(n.Text, 64); err == nil && !n.Expanded {
			d.errs = append(d.errs, n.Errorf("%s is a duration without a unit; write it like %ss or %sm", n, n.Text, n.Text))
			return
		}
		d.fail(n, want)
		return
	}
	v.SetInt(int64(x))
}

func (d *decoder) textUnmarshaler(n *Node, v reflect.Value, x encoding.TextUnmarshaler) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	if err := x.UnmarshalText([]byte(s)); err != nil {
		if n.Expanded { // the cause would quote the variable's text
			d.errs = append(d.errs, n.Errorf("%s: the expanded text is not a valid %s", n, v.Type()))
			return
		}
		d.errs = append(d.errs, n.Errorf("%s: %v", n, err))
	}
}

func isBool(text string) bool {
	switch text {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return true
	}
	return false
}

func wanted(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.String:
		return "a text"
	case v.Kind() == reflect.Bool:
		return "a bool; write true or false"
	case v.CanInt():
		return "a whole number"
	case v.CanUint():
		return "a whole number of 0 or more"
	}
	return "a number"
}
