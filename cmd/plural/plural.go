// Package plural writes a number with its noun: 1 item, 2 items. Every count that a user
// reads goes through it.
package plural

import (
	"fmt"
	"strings"
)

// Count writes n and the noun, which is given in the singular.
func Count[T ~int | ~int64 | ~uint64](n T, noun string) string {
	return fmt.Sprintf("%d %s", n, Noun(n, noun))
}

// Noun is the noun in the number that n of it need.
func Noun[T ~int | ~int64 | ~uint64](n T, noun string) string {
	last := noun[len(noun)-1]
	switch {
	case n == 1:
		return noun
	case last == 'y' && !strings.ContainsRune("aeiou", rune(noun[len(noun)-2])):
		return noun[:len(noun)-1] + "ies"
	case last == 's' || last == 'x' || strings.HasSuffix(noun, "ch") || strings.HasSuffix(noun, "sh"):
		return noun + "es"
	}
	return noun + "s"
}
