package rulestest

import (
	"bytes"
	"cmp"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// typ is a column's type, as far as a value's text depends on it.
type typ struct {
	oid uint32
	// mods are the numbers in parentheses: numeric(12,2).
	mods []int
	// elem is the type of an array's elements, delimiter what PostgreSQL prints between them.
	elem      *typ
	delimiter byte
}

// More type OIDs as in PostgreSQL's pg_type.dat.
const (
	oidBytea       = 17
	oidQChar       = 18
	oidName        = 19
	oidInt2        = 21
	oidInt4        = 23
	oidOID         = 26
	oidJSON        = 114
	oidCIDR        = 650
	oidFloat4      = 700
	oidMacaddr8    = 774
	oidMacaddr     = 829
	oidInet        = 869
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidTimetz      = 1266
	oidBit         = 1560
	oidVarbit      = 1562
	oidUUID        = 2950
)

var modsForm = regexp.MustCompile(` ?\(([0-9]+)(?:,(-?[0-9]+))?\)`)

// typeOf reads a column's type.
func typeOf(c rules.CatalogColumn) typ {
	name := c.BaseType()
	if of, array := strings.CutSuffix(name, "[]"); array {
		elem := typeOf(rules.CatalogColumn{Type: of, OID: cdc.PrintedOID(of)})
		return typ{oid: c.OID, elem: &elem, delimiter: c.DataType().Delimiter}
	}
	t := typ{oid: c.OID}
	if m := modsForm.FindStringSubmatch(name); m != nil {
		for _, digits := range m[1:] {
			if n, err := strconv.Atoi(digits); err == nil {
				t.mods = append(t.mods, n)
			}
		}
	}
	return t
}

// typed turns a value of the file into the text that the stream carries for a
// column, or reports that it cannot be a value of it.
func (l *loader) typed(n *strictyaml.Node, c rules.CatalogColumn) cdc.Value {
	if n.Kind == strictyaml.Null {
		if c.NotNull {
			l.errs = append(l.errs, n.Errorf("column %s is NOT NULL", c.Name))
		}
		return cdc.Value{Kind: cdc.Null}
	}
	text, err := l.textOf(n, typeOf(c))
	if err != nil {
		l.errs = append(l.errs, n.Errorf("%s cannot be a value of column %s, which is %s: %v", n, c.Name, c.Type, err))
	}
	return cdc.Value{Kind: cdc.Text, Data: []byte(text)}
}

// textOf is the text of a value that is not NULL.
func (l *loader) textOf(n *strictyaml.Node, t typ) (string, error) {
	switch {
	case t.oid == oidJSON || t.oid == oidJSONB:
		text := n.Text
		if n.Kind != strictyaml.Scalar {
			var b bytes.Buffer
			l.json(&b, n)
			text = b.String()
		}
		return jsonColumn(text, t.oid == oidJSONB)
	case n.Kind == strictyaml.Sequence && t.elem != nil:
		return l.array(n, t)
	case n.Kind != strictyaml.Scalar:
		return "", errors.New("it has no lists or mappings")
	}
	if t.elem != nil {
		return arrayText(l.text(n), t)
	}
	if convert := converter(t.oid); convert != nil {
		if !n.Quoted && doubtful.MatchString(n.Text) {
			l.text(n) // says so
			return "", nil
		}
		return convert(n.Text, t.mods)
	}
	return l.text(n), nil
}

// arrayText reads an array in PostgreSQL's own form.
func arrayText(text string, t typ) (string, error) {
	var wrong error
	text, err := rules.RewriteArray(text, t.delimiter, func(element string) (string, error) {
		var err error
		switch convert := converter(t.elem.oid); {
		case t.elem.elem != nil:
			element, err = arrayText(element, *t.elem)
		case t.elem.oid == oidJSON || t.elem.oid == oidJSONB:
			element, err = jsonColumn(element, t.elem.oid == oidJSONB)
		case convert != nil:
			element, err = convert(element, t.elem.mods)
		}
		wrong = cmp.Or(wrong, err)
		return element, nil
	})
	if err != nil {
		return "", errors.New("write a list, or the array as PostgreSQL prints it, like '{1,2}'")
	}
	return text, wrong
}

// converter is nil for a type whose values are texts like others: enums, domains,
// ranges and what PostgreSQL prints in ways of its own. These stand as they are
// written, so they are written as PostgreSQL prints them.
func converter(oid uint32) func(text string, mods []int) (string, error) {
	switch oid {
	case oidBool:
		return boolText
	case oidInt2, oidInt4, oidInt8, oidOID:
		return func(text string, _ []int) (string, error) { return wholeText(text, oid) }
	case oidFloat4:
		return func(text string, _ []int) (string, error) { return floatText(text, 32) }
	case oidFloat8:
		return func(text string, _ []int) (string, error) { return floatText(text, 64) }
	case oidNumeric:
		return numericText
	case oidBytea:
		return byteaText
	case oidUUID:
		return uuidText
	case oidDate:
		return dateText
	case oidTimestamp:
		return func(text string, mods []int) (string, error) { return momentText(text, mods, false) }
	case oidTimestamptz:
		return func(text string, mods []int) (string, error) { return momentText(text, mods, true) }
	case oidTime:
		return func(text string, mods []int) (string, error) { return clockText(text, mods, false) }
	case oidTimetz:
		return func(text string, mods []int) (string, error) { return clockText(text, mods, true) }
	case oidInterval:
		return intervalText
	case oidInet, oidCIDR:
		return func(text string, _ []int) (string, error) { return addressText(text, oid == oidCIDR) }
	case oidMacaddr, oidMacaddr8:
		return func(text string, _ []int) (string, error) {
			return macText(text, map[uint32]int{oidMacaddr: 6, oidMacaddr8: 8}[oid])
		}
	case oidVarchar, oidBpchar:
		return func(text string, mods []int) (string, error) { return charText(text, mods, oid == oidBpchar) }
	case oidBit, oidVarbit:
		return func(text string, mods []int) (string, error) { return bitText(text, mods, oid == oidBit) }
	case oidName:
		return func(text string, _ []int) (string, error) { return shortText(text, 63) }
	case oidQChar:
		return func(text string, _ []int) (string, error) { return shortText(text, 1) }
	}
	return nil
}
