package house

import (
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/valkey"
	"github.com/walpurge/walpurge/sinks/varnish"
)

// The kinds of values are listed in one place, so that a new one needs no other: no program text
// outside of rules/invalidation names several of them.
func TestKindsAreListedOnce(t *testing.T) {
	word := regexp.MustCompile(`[A-Za-z_]+`)
	byWord := map[string]invalidation.Kind{}
	for _, k := range invalidation.All() {
		if strings.Contains(k.Plural(), "_") || k == invalidation.Generation { // the others are common words
			byWord[strings.ReplaceAll(k.Plural(), "_", "")] = k
		}
	}
	require.Len(t, byWord, 4, "the words that name no other thing")
	lists := 0
	for _, src := range sources(t) {
		named := map[invalidation.Kind]bool{}
		note := func(text string) {
			for _, w := range word.FindAllString(text, -1) {
				if k, found := byWord[strings.ToLower(strings.ReplaceAll(w, "_", ""))]; found {
					named[k] = true
				}
			}
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.BasicLit:
				note(x.Value)
			case *ast.Ident:
				note(x.Name)
			}
			return true
		})
		if src.pkg() == "rules/invalidation" {
			lists += len(named)
			continue
		}
		if len(named) > 1 {
			t.Errorf("%s lists kinds of values: derive the list from rules/invalidation", src.name)
		}
	}
	require.Positive(t, lists, "the walk finds the table itself")
}

// options are what a block of a sink may have for the sink to take more kinds.
var options = map[string]func(sinks.Config){
	"tag_sets": onlyFor(func(c *valkey.Config) { c.TagSets = []valkey.TagSet{{Layout: "set", Key: "tag:{tag}"}} }),
	"scan":     onlyFor(func(c *valkey.Config) { c.Scan.Enabled = true }),
	"tags":     onlyFor(func(c *cloudfront.Config) { c.Tags = true }),
	"bans":     onlyFor(func(c *varnish.Config) { c.Bans = true }),
}

// onlyFor leaves other kinds as they are.
func onlyFor[C sinks.Config](set func(C)) func(sinks.Config) {
	return func(c sinks.Config) {
		if own, ok := c.(C); ok {
			set(own)
		}
	}
}

// The table of kinds in docs/config.md is what the sinks' configurations say.
func TestTableOfKinds(t *testing.T) {
	page := read(t, "docs/config.md")
	header := []string{"Kind"}
	for _, c := range config.Kinds() {
		header = append(header, "`"+c.Kind()+"`")
	}
	table := map[string][]string{}
	for _, cells := range rows(page, header...) {
		table[strings.Trim(cells[0], "`")] = cells[1:]
	}
	for i, c := range config.Kinds() {
		for _, k := range invalidation.All() {
			require.Contains(t, table, k.Plural(), "docs/config.md: a row for each kind, and columns %v", header)
			cell := table[k.Plural()][i]
			where := "docs/config.md, the table of kinds, " + k.Plural() + " at " + c.Kind()
			option, with := strings.CutPrefix(cell, "with ")
			switch {
			case cell == "yes":
				require.True(t, c.Kinds().Has(k), where)
			case with:
				require.False(t, c.Kinds().Has(k), where)
				require.Contains(t, options, strings.Trim(option, "`"), where)
				enabled := config.Kinds()[i]
				options[strings.Trim(option, "`")](enabled)
				require.True(t, enabled.Kinds().Has(k), where)
			default:
				require.Empty(t, cell, where)
				require.False(t, c.Kinds().Has(k), where)
				require.Empty(t, c.Traits().Hints[k], where)
			}
		}
	}
}

// The table of lengths in docs/rules.md is what the sinks' configurations say.
func TestTableOfLengths(t *testing.T) {
	page := read(t, "docs/rules.md")
	at := strings.Index(page, "| Sink | `keys`")
	require.Positive(t, at)
	header, _, _ := strings.Cut(page[at:], "\n")
	columns := strings.Split(strings.Trim(header, "|"), "|")
	lengths := map[string][]string{}
	for _, cells := range rows(page, "Sink", strings.TrimSpace(columns[1])) {
		lengths[cells[0]] = cells[1:]
	}
	require.Len(t, lengths, len(config.Kinds()), "a row for each kind of sink")
	for _, c := range config.Kinds() {
		for _, enable := range options {
			enable(c)
		}
		require.Contains(t, lengths, c.Kind())
		caps := c.Caps()
		for n, column := range columns[1 : len(columns)-1] {
			for _, name := range spans(column) {
				k := invalidation.All()[slices.Index(invalidation.Plurals(invalidation.All()), name)]
				if want := strings.ReplaceAll(lengths[c.Kind()][n], ",", ""); want != "" || c.Kinds().Has(k) {
					require.Equal(t, want, strconv.Itoa(caps.Of(k)), "docs/rules.md: %s at %s", name, c.Kind())
				}
			}
		}
	}
}

// The pages that list the kinds list all of them.
func TestPagesListTheKinds(t *testing.T) {
	page := read(t, "docs/rules.md")
	inTable := map[string]bool{}
	for _, cells := range rows(page, "Key", "Meaning") {
		inTable[strings.Trim(cells[0], "`")] = true
	}
	for _, k := range invalidation.InRules() {
		require.True(t, inTable[k.Plural()], "docs/rules.md: the table of a rule's keys lacks %s", k.Plural())
	}
	for _, cells := range rows(page, "Key", "Meaning") {
		if cells[0] == "`expect`" {
			for _, k := range invalidation.All() {
				require.Contains(t, cells[1], "`"+k.Plural(), "docs/rules.md: expect")
			}
		}
	}
}
