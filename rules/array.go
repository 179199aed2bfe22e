package rules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/cdc"
)

// maxArray is the longest text of an array that is read, in bytes. The elements of a longer one are
// unknown.
const maxArray = 4 << 20

// maxDimensions is how deep arrays nest (PostgreSQL, MAXDIM).
const maxDimensions = 6

var (
	errLongArray = fmt.Errorf("%w: the array is longer than 4 MiB", errLimit)
	errNoArray   = errors.New("the text is not an array as PostgreSQL prints it")
)

// element is one element of an array: a NULL, a text, or an array of the next dimension.
type element struct {
	text   []byte
	null   bool
	nested []element
	list   bool
}

// arrayReader reads an array as PostgreSQL prints it (manual, "Array Input and Output Syntax"):
// {a,"b,c",NULL}, with [2:4]= before it where the first element is not number 1.
type arrayReader struct {
	text      []byte
	at        int
	delimiter byte
	count     int
}

// parseArray reads the text of an array. Elements point into the text, or are copies where the text
// has escapes.
func parseArray(text []byte, delimiter byte) ([]element, error) {
	if len(text) > maxArray {
		return nil, errLongArray
	}
	r := arrayReader{text: text, delimiter: delimiter}
	if bytes.HasPrefix(text, []byte("[")) {
		bounds := bytes.IndexByte(text, '=')
		if bounds < 0 || strings.Trim(string(text[:bounds]), "[]:-+0123456789") != "" {
			return nil, errNoArray
		}
		r.at = bounds + 1
	}
	all, ok := r.list(1)
	if r.count > maxElements {
		return nil, errElements
	}
	if !ok || r.at != len(text) {
		return nil, errNoArray
	}
	return all, nil
}

// RewriteArray reads an array as PostgreSQL prints it, and writes it with what f makes of each
// element that is not NULL.
func RewriteArray(text string, delimiter byte, f func(element string) (string, error)) (string, error) {
	elements, err := parseArray([]byte(text), delimiter)
	if err != nil {
		return "", err
	}
	bounds, _, _ := strings.Cut(text, "{")
	var wrong error
	var list func(elements []element) string
	list = func(elements []element) string {
		texts := make([]string, len(elements))
		for i, e := range elements {
			switch {
			case e.list:
				texts[i] = list(e.nested)
			case e.null:
				texts[i] = "NULL"
			default:
				changed, err := f(string(e.text))
				wrong = errors.Join(wrong, err)
				texts[i] = ArrayElement(changed, delimiter)
			}
		}
		return "{" + strings.Join(texts, string(delimiter)) + "}"
	}
	return bounds + list(elements), wrong
}

// ArrayElement quotes the text of an element where PostgreSQL would: if it holds punctuation,
// blanks or nothing, or is the word NULL (array_out).
func ArrayElement(text string, delimiter byte) string {
	if text != "" && !strings.ContainsAny(text, "{}\"\\ \t\n\r\v\f"+string(delimiter)) && !strings.EqualFold(text, "NULL") {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// next is the next byte, or -1 at the end.
func (r *arrayReader) next() int {
	if r.at < len(r.text) {
		return int(r.text[r.at])
	}
	return -1
}

func (r *arrayReader) list(depth int) (elements []element, ok bool) {
	if r.next() != '{' || depth > maxDimensions {
		return nil, false
	}
	r.at++
	if r.next() == '}' {
		r.at++
		return nil, true
	}
	for {
		e, ok := r.element(depth)
		if r.count++; !ok || r.count > maxElements {
			return nil, false
		}
		elements = append(elements, e)
		switch r.next() {
		case int(r.delimiter):
			r.at++
		case '}':
			r.at++
			return elements, true
		default:
			return nil, false
		}
	}
}

func (r *arrayReader) element(depth int) (e element, ok bool) {
	switch r.next() {
	case '{':
		e.list = true
		e.nested, ok = r.list(depth + 1)
		return e, ok
	case '"':
		return r.quoted()
	}
	from := r.at
	for r.at < len(r.text) && r.text[r.at] != r.delimiter && strings.IndexByte(`{}"\`, r.text[r.at]) < 0 {
		r.at++
	}
	e.text = bytes.TrimFunc(r.text[from:r.at], unicode.IsSpace)
	if len(e.text) == 4 && strings.EqualFold(string(e.text), "null") {
		return element{null: true}, true
	}
	return e, len(e.text) > 0
}

func (r *arrayReader) quoted() (e element, ok bool) {
	r.at++
	from := r.at
	for copied := false; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			if !copied {
				e.text = r.text[from:r.at]
			}
			r.at++
			return e, true
		case c == '\\' && !copied:
			copied = true
			e.text = bytes.Clone(r.text[from:r.at])
			fallthrough
		case c == '\\':
			if r.at++; r.at < len(r.text) {
				e.text = append(e.text, r.text[r.at])
			}
		case copied:
			e.text = append(e.text, c)
		}
	}
	return e, false
}

// flat calls f with each element that is not NULL, those of nested arrays in their order.
func flat(elements []element, f func(text []byte)) {
	for i := range elements {
		switch e := &elements[i]; {
		case e.list:
			flat(e.nested, f)
		case !e.null:
			f(e.text)
		}
	}
}

// celArray is an array as expressions see it: a list, of lists where it has several dimensions.
func celArray(text []byte, t *columnType) ref.Val {
	elements, err := parseArray(text, t.Delimiter)
	if err != nil {
		return types.WrapErr(err)
	}
	return celElements(elements, func(text []byte) ref.Val {
		return celValue(cdc.Value{Kind: cdc.Text, Data: text}, t.elem)
	})
}

func celElements(elements []element, value func(text []byte) ref.Val) ref.Val {
	out := make([]ref.Val, len(elements))
	for i := range elements {
		switch e := &elements[i]; {
		case e.list:
			out[i] = celElements(e.nested, value)
		case e.null:
			out[i] = types.NullValue
		default:
			out[i] = value(e.text)
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// arrayTexts is an array as templates copy it: the text of each element that is not NULL, those of
// nested arrays in their order.
func arrayTexts(text []byte, t *columnType) ref.Val {
	elements, err := parseArray(text, t.Delimiter)
	if err != nil {
		return types.WrapErr(err)
	}
	var out []string
	if err := t.each(elements, func(text []byte) { out = append(out, string(text)) }); err != nil {
		return types.WrapErr(err)
	}
	return types.NewStringList(types.DefaultTypeAdapter, out)
}

// each calls f with the text form of each element that is not NULL. An element that is an array by
// itself, since it is of a domain over one, is taken apart as well.
func (t *columnType) each(elements []element, f func(text []byte)) error {
	var err error
	flat(elements, func(text []byte) {
		if t.elem.elem == nil {
			f(appendText(nil, text, t.elem.form))
			return
		}
		inner, wrong := parseArray(text, t.elem.Delimiter)
		if wrong == nil {
			wrong = t.elem.each(inner, f)
		}
		err = errors.Join(err, wrong)
	})
	return err
}
