package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
)

// Table names a table as rules do.
type Table = cdc.Table

// SinkSpec is what the loader needs to know of a configured sink.
type SinkSpec struct {
	Name string
	// Takes are the kinds that the sink can carry out.
	Takes invalidation.KindSet
	// Caps are the lengths of the values that it takes.
	Caps invalidation.Caps
	// RawTags reports that tags do not travel in a header on their way to the sink's
	// cache, so that the sink is given them as the application wrote them.
	RawTags bool
	// Withheld is the percentage of values that the sink's rollout keeps from it.
	Withheld int
	// Hints say what would make the sink take a kind that it does not take.
	Hints map[invalidation.Kind]string
	// Headers is what the sink does with the headers of rules.
	Headers urlvariant.HeaderUse
}

// Options are what a rules file is checked against.
type Options struct {
	// Sinks are the configured sinks; a place in this list is the sink index
	// everywhere in this package.
	Sinks []SinkSpec
	// WholeRollout reads rollout: of rules and leaves it without effect, for those
	// who judge what rules mean and not how far they are rolled out.
	WholeRollout bool
	// Catalog, if there is one, has the columns and types that rules are checked
	// against. What a Set does is the same with and without it.
	Catalog *Catalog
}

// Set is all rules of a pipeline, compiled. It is immutable and safe for
// concurrent use.
type Set struct {
	rules   []*Rule
	byTable map[Table][]int
	// patterns are the rules whose table is a pattern, ascending.
	patterns []int
	// byMessage are the rules of a prefix of messages.
	byMessage map[string][]int
	sinks     []SinkSpec
}

// Rule is one compiled rule. It is immutable.
type Rule struct {
	Name string
	// Table is as written: a pattern where it has braces. It is empty for a rule
	// of messages.
	Table Table
	// Message is the prefix of the messages that the rule carries out, empty for
	// a rule of a table.
	Message string
	// File and Line are where the rule begins.
	File string
	Line int
	// Sinks are the indices of the sinks to which at least one of the rule's
	// values goes, ascending.
	Sinks []int
	// Every is the period in which a value is purged at most once, 0 for none.
	Every time.Duration

	ops        [cdc.Truncate + 1]bool
	when       *condition // nil: always
	values     [invalidation.NumKinds][]*template
	unknown    literals
	onTruncate literals
	// covers is set where the file says that a purge of unknown covers whatever it replaces.
	covers bool
	// routes are the sinks of the rule that take a kind.
	routes [invalidation.NumKinds][]int
	// steps are those of collapse:, rising; climbs has for each sink the places of
	// those that it takes something of, nil without steps.
	steps  []step
	climbs [][]int
	// specs are Options.Sinks.
	specs []SinkSpec
	// shares are the percentages of values that each sink gets, nil where all get
	// all of them.
	shares []int
	// pattern is nil for an exact table; used are the captures that the rule
	// names, for the check against columns of the same name.
	pattern *pattern
	used    []string
	lookups []*Lookup
	// variants are the combinations of headers:.
	variants []urlvariant.Variant
}

// literals are fixed values by kind; given tells an absent block from an empty one.
type literals struct {
	given  bool
	values [invalidation.NumKinds][][]byte
}

// Rules lists the rules in the order of files and lines; a place in it is the
// rule index of Output. The caller must not change what it points to.
func (s *Set) Rules() []*Rule { return slices.Clone(s.rules) }

// RulesOf lists the rules that watch a table, by name or by pattern.
func (s *Set) RulesOf(t Table) []*Rule {
	var out []*Rule
	for _, id := range s.watching(t) {
		out = append(out, s.rules[id])
	}
	return out
}

// Tables lists the tables that rules name exactly, sorted, each once. Which
// others are watched, by patterns, is for Matches and Patterns to say.
func (s *Set) Tables() []Table {
	out := make([]Table, 0, len(s.byTable))
	for t := range s.byTable {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return out
}
