package rules

import "time"
import "github.com/walpurge/walpurge/rules/invalidation"

// Explanation says what one rule makes of one change, and why. It holds values
// of the row: it is for people who may see the row.
type Explanation struct {
	Rule string
	File string
	Line int
	// Matched reports that the rule applies, Why says so in a sentence.
	Matched bool
	Why     string
	// Tried are the images that the condition was tried with, in order; none
	// where the rule has no condition, or does not get so far.
	Tried []Tried
	// Templates are what the rule's templates produce, image by image; none for
	// a TRUNCATE and where the rule does not match.
	Templates []Expansion
	// Lookups are the rule's questions to the database, image by image.
	Lookups []Asked
	// Steps are what the steps of collapse: produce, for when there are many such
	// changes.
	Steps []StepExpansion
	// Every is the rule's period, 0 for none.
	Every time.Duration
	// Purges are what Eval hands over for the change, sink by sink, and what a
	// rollout keeps back.
	Purges []Purge
}

// Tried is a condition tried with one image, "new" or "old".
type Tried struct {
	Image string
	// Result is "true", "false" or "unknown"; Error says why it is unknown.
	Result string
	Error  string
	// Terms are what the condition's outermost && joins, or the condition itself,
	// where it is not true.
	Terms []Term
}

// Term is one part of a condition with what it read.
type Term struct {
	Source  string
	Result  string
	Error   string
	Columns []ColumnValue
}

// ColumnValue is a column in one image.
type ColumnValue struct {
	Image  string
	Column string
	// State is "value", "null", or why it has none: "not carried", "no such
	// row", "no such column".
	State string
	Value string
}

// Expansion is what one template produces in one image; Image is empty where no
// image matters.
type Expansion struct {
	Kind     invalidation.Kind
	Template string
	Sinks    []string
	Image    string
	Values   []string
	// Skipped says why there is no value, or not every one; Unknown that something
	// else is purged or parked for it at one sink at least: what Instead names, and
	// at the other sinks what unknown: names.
	Skipped string
	Unknown bool
	Instead []Instead
}

// Instead is what replaces values of a template at a sink for which unknown: names nothing.
type Instead struct {
	Sink string
	Fallback
}

// Asked is a lookup for one image; Image is empty where no image matters.
type Asked struct {
	Lookup string
	Image  string
	SQL    string
	// Args are those of the statement, where all could be built.
	Args []string
	// Rows is how many rows the answer has. Skipped says why nothing was asked, or
	// why the answer gives no values; Unknown that unknown: stands in for them.
	Rows    int
	Skipped string
	Unknown bool
}

// StepExpansion is what one step of collapse: produces.
type StepExpansion struct {
	Over      int
	Templates []Expansion
}

// Purge is one value for one sink, as people read it; see Kind.Text. Withheld is set where a rollout keeps it back.
type Purge struct {
	Sink     string
	Kind     invalidation.Kind
	Value    string
	Withheld bool
	// For is the template that Value replaces, and that is parked where Parked is set;
	// empty for a value that was built. Kind is then its kind.
	For    string
	Parked bool
}
