package draft

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/walpurge/walpurge/cdc"
)

// names are what tables are called in values and as rules.
type names struct {
	// words are the singular of a table, for one of its rows.
	words map[cdc.Table]string
	// rules are the table's own name, for all of its rows; letters, digits and _.
	rules map[cdc.Table]string
}

// nameTables gives all tables, and those that they refer to, names of their own.
func nameTables(tables []Table) names {
	var all []cdc.Table
	for i := range tables {
		all = append(all, tables[i].Table)
	}
	for i := range tables {
		for _, f := range tables[i].Foreign {
			all = append(all, f.Parent)
		}
	}
	slices.SortFunc(all, func(a, b cdc.Table) int { return strings.Compare(a.String(), b.String()) })
	all = slices.Compact(all)
	one := func(t cdc.Table) string { return singular(slug(t.Name)) }
	schema := func(t cdc.Table) string { return slug(t.Schema) + "_" + slug(t.Name) }
	other := func(t cdc.Table) string {
		if t.Schema == "public" {
			return slug(t.Name)
		}
		return slug(t.Schema) + "_" + one(t)
	}
	return names{
		words: distinct(all, one, other, schema),
		rules: distinct(all, func(t cdc.Table) string { return slug(t.Name) }, schema),
	}
}

// distinct names each table by the first of the ways that no other table is
// named by, and by a number where each is taken. Schema public goes first.
func distinct(all []cdc.Table, ways ...func(cdc.Table) string) map[cdc.Table]string {
	level := make([]int, len(all))
	name := func(i int) string {
		if level[i] < len(ways) {
			return ways[level[i]](all[i])
		}
		return fmt.Sprintf("%s_%d", ways[len(ways)-1](all[i]), i+1)
	}
	for {
		seen := map[string][]int{}
		for i := range all {
			seen[name(i)] = append(seen[name(i)], i)
		}
		clash := false
		for _, same := range seen {
			public := 0
			for _, i := range same {
				if all[i].Schema == "public" {
					public++
				}
			}
			for _, i := range same {
				if len(same) > 1 && (public != 1 || all[i].Schema != "public") {
					clash = true
					level[i]++
				}
			}
		}
		if !clash {
			break
		}
	}
	out := make(map[cdc.Table]string, len(all))
	for i := range all {
		out[all[i]] = name(i)
	}
	return out
}

// slug makes lower-case letters, digits and _ of a name: what a header and a
// rule's name can hold. Accents go; other characters become _.
func slug(name string) string {
	var b strings.Builder
	for _, c := range norm.NFD.String(strings.ReplaceAll(strings.ToLower(name), "ß", "ss")) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case unicode.Is(unicode.Mn, c):
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "_"):
			b.WriteByte('_')
		}
	}
	if s := strings.Trim(b.String(), "_"); s != "" {
		return s
	}
	return "table"
}

// singular guesses the singular of an English plural, of the last word in a
// slug. A name that is not a plural, or in another language, stays mostly as it is.
func singular(s string) string {
	end := func(suffix string) bool { return strings.HasSuffix(s, suffix) }
	cut := func(suffix, instead string) string {
		if rest := strings.TrimSuffix(s, suffix); rest != "" {
			return rest + instead
		}
		return s
	}
	switch {
	case end("people"):
		return strings.TrimSuffix(s, "people") + "person"
	case end("series"), end("species"), end("news"), end("ss"), end("us"), end("is"):
		return s
	case end("movies"), end("cookies"):
		return cut("s", "")
	case end("ies"):
		return cut("ies", "y")
	case end("caches"):
		return cut("s", "")
	case end("sses"), end("shes"), end("ches"), end("xes"), end("zzes"), end("statuses"), end("buses"):
		return cut("es", "")
	case end("_s"):
		return s
	case end("s"):
		return cut("s", "")
	}
	return s
}
