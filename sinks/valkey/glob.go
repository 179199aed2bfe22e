package valkey

import (
	"cmp"
	"slices"
	"strings"
)

// escapeGlob makes a literal text match itself in a glob, byte for byte.
func escapeGlob(s string) string {
	return globEscaper.Replace(s)
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// glob is a pattern that was asked for at a place of the batch.
type glob struct {
	place   int
	pattern string
	// head is the literal text that the pattern begins with, unescaped, and rest
	// what follows it.
	head, rest string
}

func newGlob(place int, pattern string) glob {
	g := glob{place: place, pattern: pattern}
	var head strings.Builder
	for rest := pattern; rest != ""; {
		if strings.IndexByte("*?[", rest[0]) >= 0 {
			g.rest = rest
			break
		}
		if rest[0] == '\\' && len(rest) > 1 {
			rest = rest[1:]
		}
		head.WriteByte(rest[0])
		rest = rest[1:]
	}
	g.head = head.String()
	return g
}

// globs matches many patterns at once. Those that are a text and a * are looked
// up by length, so that thousands of prefixes cost as little as a few.
type globs struct {
	all      []glob
	lengths  []int            // of prefixes, ascending
	prefixes map[string][]int // head to places
	others   []glob
}

func newGlobs(all []glob) *globs {
	g := &globs{all: all, prefixes: map[string][]int{}}
	for _, one := range all {
		if one.rest != "*" {
			g.others = append(g.others, one)
			continue
		}
		g.prefixes[one.head] = append(g.prefixes[one.head], one.place)
		g.lengths = append(g.lengths, len(one.head))
	}
	slices.Sort(g.lengths)
	g.lengths = slices.Compact(g.lengths)
	return g
}

// ask is the pattern to give to the server: the only one, or what all begin with.
func (g *globs) ask() string {
	if len(g.all) == 1 {
		return g.all[0].pattern
	}
	common := g.all[0].head
	for _, one := range g.all[1:] {
		for !strings.HasPrefix(one.head, common) {
			common = common[:len(common)-1]
		}
	}
	return escapeGlob(common) + "*"
}

// match returns the places whose patterns match the key, nil if none does.
func (g *globs) match(key string) (places []int) {
	for _, n := range g.lengths {
		if n > len(key) {
			break
		}
		places = append(places, g.prefixes[key[:n]]...)
	}
	for _, one := range g.others {
		if strings.HasPrefix(key, one.head) && matchGlob(one.pattern, key) {
			places = append(places, one.place)
		}
	}
	return places
}

// matchGlob says what the server's own matching says: * any bytes, ? one byte,
// [a-z] and [^a-z] one of a set, \ takes the next byte literally; what is left
// open at the end of the pattern counts as closed there (stringmatchlen in the
// server's util.c; a test compares the two).
func matchGlob(pattern, key string) bool {
	// After a mismatch the last * takes one byte more: earlier ones need not be
	// tried again, because what stands between them is already found.
	star, from := -1, 0
	p, k := 0, 0
	for k < len(key) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, k
				p++
				continue
			}
			if n, ok := matchByte(pattern[p:], key[k]); ok {
				p += n
				k++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, k = star+1, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchByte matches one byte with the first element of the pattern, and returns
// the length of that.
func matchByte(pattern string, b byte) (n int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		return matchSet(pattern, b)
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == b
		}
	}
	return 1, pattern[0] == b
}

// matchSet matches one byte with a set. Servers order bytes as their compiler's char
// does, signed on some machines and unsigned on others, which matters for a range that
// ends beyond ASCII: what either of them takes is taken.
func matchSet(pattern string, b byte) (n int, ok bool) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	signed, unsigned := false, false
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		low, high := pattern[i], pattern[i]
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			low, high = pattern[i], pattern[i]
		case i+2 < len(pattern) && pattern[i+1] == '-':
			high = pattern[i+2]
			i += 2
		}
		signed = signed || between(int8(b), int8(low), int8(high))
		unsigned = unsigned || between(b, low, high)
	}
	return min(i+1, len(pattern)), signed != not || unsigned != not
}

func between[T cmp.Ordered](x, a, b T) bool {
	return min(a, b) <= x && x <= max(a, b)
}
