package valkey

import (
	"cmp"
	"errors"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// TagSet is one kind of tag set that the application keeps: under a key made
// from the tag, the keys of the entries that have the tag.
type TagSet struct {
	// Layout is set (the default), laravel or symfony.
	Layout string `yaml:"layout"`
	// Key is the set's key, with {tag} for the tag; all other braces are what
	// they are. The sink's key_prefix is put before it.
	Key string `yaml:"key"`
}

// layout is how the members of a tag set are kept.
type layout struct {
	key    string // where Key is not given
	scores bool   // a sorted set
	// text reports that members are text, so that one with other bytes was serialized or
	// compressed on its way.
	text bool
}

// layouts: a plain set; a sorted set by time of expiry (Laravel's RedisTagSet);
// and a plain set under a name with control characters (Symfony's AbstractTagAwareAdapter,
// TAGS_PREFIX).
var layouts = map[string]layout{
	"set":     {},
	"laravel": {key: "tag:{tag}:entries", scores: true, text: true},
	"symfony": {key: symfonySince63 + "{tag}"},
}

// What Symfony puts before a tag.
const (
	symfonyUntil62 = "\x00tags\x00"
	symfonySince63 = "\x01tags\x01"
)

const tagHole = "{tag}"

func (t TagSet) layoutName() string { return cmp.Or(t.Layout, "set") }

func (t TagSet) kind() (layout, bool) {
	l, ok := layouts[t.layoutName()]
	if t.Key != "" {
		l.key = t.Key
	}
	return l, ok
}

func (t TagSet) validate() error {
	l, ok := t.kind()
	switch {
	case !ok:
		return errors.New("layout: no such layout; write set, laravel or symfony")
	case l.key == "":
		return errors.New(`key is missing; write the name of a tag's set, such as "tag:{tag}"`)
	case strings.Count(l.key, tagHole) != 1:
		return errors.New(`key: write {tag} in it, once, as in "tag:{tag}"`)
	}
	return nil
}

// forms are the layout for each version of the framework: Symfony's sets have two names, and
// right after an upgrade both are there.
func (l layout) forms() []layout {
	until62, since63 := l, l
	until62.key = strings.Replace(l.key, symfonySince63, symfonyUntil62, 1)
	since63.key = strings.Replace(l.key, symfonyUntil62, symfonySince63, 1)
	if until62.key == since63.key {
		return []layout{l}
	}
	return []layout{since63, until62}
}

// name is the key of a tag's set, without key_prefix. A tag is put in as it is:
// the application wrote it raw.
func (l layout) name(tag string) string {
	before, after, _ := strings.Cut(l.key, tagHole)
	return before + tag + after
}

// count asks how many members a set has, and so whether it is one.
func (l layout) count(b valkey.Builder, set string) valkey.Completed {
	if l.scores {
		return b.Zcard().Key(set).Build()
	}
	return b.Scard().Key(set).Build()
}

// scan asks for members from a cursor on.
func (l layout) scan(b valkey.Builder, set string, cursor uint64) valkey.Completed {
	if l.scores {
		return b.Zscan().Key(set).Cursor(cursor).Count(membersPerScan).Build()
	}
	return b.Sscan().Key(set).Cursor(cursor).Count(membersPerScan).Build()
}

// members takes the answer to scan apart.
func (l layout) members(elements []string) []string {
	if !l.scores {
		return elements
	}
	out := make([]string, 0, len(elements)/2)
	for i := 0; i < len(elements); i += 2 {
		out = append(out, elements[i]) // the score follows
	}
	return out
}
