package rulestest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

func wholeText(text string, oid uint32) (string, error) {
	if oid == oidOID {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return "", errors.New("write a whole number from 0 to 4294967295")
		}
		return strconv.FormatUint(n, 10), nil
	}
	bits := map[uint32]int{oidInt2: 16, oidInt4: 32, oidInt8: 64}[oid]
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "+"), 10, bits)
	if err != nil || strings.HasPrefix(text, "+-") {
		return "", fmt.Errorf("write a whole number from %d to %d", int64(-1)<<(bits-1), int64(1<<(bits-1)-1))
	}
	return strconv.FormatInt(n, 10), nil
}

// special reads NaN and the infinities, in whatever case.
func special(text string) (string, bool) {
	switch strings.ToLower(text) {
	case "nan":
		return "NaN", true
	case "inf", "infinity", "+inf", "+infinity":
		return "Infinity", true
	case "-inf", "-infinity":
		return "-Infinity", true
	}
	return "", false
}

var numberForm = regexp.MustCompile(`^([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,5}))?$`)

// floatText prints the shortest digits that read back the same, with an exponent
// where PostgreSQL has one (src/common/d2s.c and f2s.c): from 15 digits on, or 6.
func floatText(text string, bits int) (string, error) {
	if s, ok := special(text); ok {
		return s, nil
	}
	f, err := strconv.ParseFloat(text, bits)
	if err != nil || !numberForm.MatchString(text) {
		return "", errors.New("write a number, NaN, Infinity or -Infinity, within the range of the type")
	}
	long := strconv.FormatFloat(f, 'e', -1, bits)
	_, digits, _ := strings.Cut(long, "e")
	if exponent, _ := strconv.Atoi(digits); exponent < -4 || exponent >= map[int]int{32: 6, 64: 15}[bits] {
		return long, nil
	}
	return strconv.FormatFloat(f, 'f', -1, bits), nil
}

// maxExponent is far above what numeric takes, and keeps a slip from filling memory.
const maxExponent = 20_000

// numericText prints a number with the digits that were written, or, where the
// column has a scale, with as many, rounded half away from zero.
func numericText(text string, mods []int) (string, error) {
	if s, ok := special(text); ok {
		if len(mods) > 0 && s != "NaN" {
			return "", errors.New("a numeric with a precision takes no infinity")
		}
		return s, nil
	}
	m := numberForm.FindStringSubmatch(text)
	if m == nil || m[2]+m[3] == "" {
		return "", errors.New("write a number, NaN, Infinity or -Infinity")
	}
	digits, scale := m[2]+m[3], len(m[3])
	if m[4] != "" {
		exponent, _ := strconv.Atoi(m[4]) // the form has made sure
		if exponent > maxExponent || exponent < -maxExponent {
			return "", errors.New("its exponent is out of range")
		}
		scale -= exponent
	}
	if scale < 0 {
		digits, scale = digits+strings.Repeat("0", -scale), 0
	}
	value, _ := new(big.Int).SetString(digits, 10)
	if len(mods) > 0 {
		wanted := 0
		if len(mods) > 1 {
			wanted = mods[1]
		}
		value = rescale(value, scale, wanted)
		if scale = wanted; scale < 0 { // numeric(3,-2) counts in hundreds
			value.Mul(value, power(-scale))
			scale = 0
		}
		if value.Cmp(power(mods[0]-wanted+scale)) >= 0 {
			return "", fmt.Errorf("it has too many digits for numeric(%d,%d)", mods[0], wanted)
		}
	}
	out := value.String()
	if len(out) <= scale {
		out = strings.Repeat("0", scale-len(out)+1) + out
	}
	if scale > 0 {
		out = out[:len(out)-scale] + "." + out[len(out)-scale:]
	}
	if m[1] == "-" && value.Sign() != 0 {
		out = "-" + out
	}
	return out, nil
}

func power(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(n, 0))), nil)
}

// rescale gives a number with one scale another.
func rescale(value *big.Int, from, to int) *big.Int {
	if to >= from {
		return new(big.Int).Mul(value, power(to-from))
	}
	unit := power(from - to)
	half := new(big.Int).Rsh(unit, 1)
	return new(big.Int).Quo(new(big.Int).Add(value, half), unit)
}

var byteaForm = regexp.MustCompile(`^\\x([0-9a-fA-F]{2})*$`)

func byteaText(text string, _ []int) (string, error) {
	if !byteaForm.MatchString(text) {
		return "", errors.New(`write its bytes in hex, like '\x00ff'`)
	}
	return strings.ToLower(text), nil
}

func uuidText(text string, _ []int) (string, error) {
	text = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}"))
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != 16 {
		return "", errors.New("write 32 hex digits, like a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]), nil
}

// addressText prints an inet without a full mask, and a cidr with one.
func addressText(text string, network bool) (string, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return "", errors.New("write an address, or address/bits")
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case network && p.Masked() != p:
		return "", errors.New("a cidr has no bits to the right of its mask")
	case !network && p.Bits() == p.Addr().BitLen():
		return p.Addr().String(), nil
	}
	return p.String(), nil
}

func macText(text string, pairs int) (string, error) {
	text = strings.ToLower(strings.ReplaceAll(text, "-", ":"))
	if !regexp.MustCompile(fmt.Sprintf(`^[0-9a-f]{2}(:[0-9a-f]{2}){%d}$`, pairs-1)).MatchString(text) {
		return "", errors.New("write pairs of hex digits with colons, like 08:00:2b:01:02:03")
	}
	return text, nil
}
