package rulestest

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func boolText(text string, _ []int) (string, error) {
	switch strings.ToLower(text) {
	case "t", "true":
		return "t", nil
	case "f", "false":
		return "f", nil
	}
	return "", errors.New("write true or false")
}

func shortText(text string, limit int) (string, error) {
	if len(text) > limit {
		return "", fmt.Errorf("it is %d bytes long, at most %d fit", len(text), limit)
	}
	return text, nil
}

// charText keeps within the length; blanks past it are cut off, and a char(n) is
// filled up with them, as it is stored.
func charText(text string, mods []int, pad bool) (string, error) {
	if len(mods) == 0 {
		return text, nil
	}
	n := utf8.RuneCountInString(text)
	for n > mods[0] && strings.HasSuffix(text, " ") {
		text, n = text[:len(text)-1], n-1
	}
	if n > mods[0] {
		return "", fmt.Errorf("it is %d characters long, at most %d fit", n, mods[0])
	}
	if pad && mods[0] <= 10<<20 { // the largest length that PostgreSQL has
		text += strings.Repeat(" ", mods[0]-n)
	}
	return text, nil
}

func bitText(text string, mods []int, exact bool) (string, error) {
	switch {
	case strings.Trim(text, "01") != "":
		return "", errors.New("write zeros and ones")
	case len(mods) > 0 && (len(text) > mods[0] || exact && len(text) != mods[0]):
		return "", fmt.Errorf("it has %d digits and not %d", len(text), mods[0])
	}
	return text, nil
}

// array writes a list as PostgreSQL prints arrays.
func (l *loader) array(n *strictyaml.Node, t typ) (string, error) {
	texts := make([]string, len(n.Items))
	for i, item := range n.Items {
		var err error
		switch {
		case item.Kind == strictyaml.Null:
			texts[i] = "NULL"
			continue
		case item.Kind == strictyaml.Sequence && t.elem.elem == nil:
			texts[i], err = l.array(item, t)
		default:
			texts[i], err = l.textOf(item, *t.elem)
			texts[i] = rules.ArrayElement(texts[i], t.delimiter)
		}
		if err != nil {
			return "", err
		}
	}
	return "{" + strings.Join(texts, string(t.delimiter)) + "}", nil
}
