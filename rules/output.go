package rules

import "github.com/walpurge/walpurge/rules/invalidation"

// Output receives what the rules say about a change. Its methods are called on
// the caller's goroutine.
type Output interface {
	// Invalidate hands over one value for one sink. rule is an index of
	// Set.Rules, sink one of Options.Sinks. value aliases a scratch buffer and
	// is valid during the call only; for Everything it is empty. For one change
	// a template gives each value once, but two templates may give the same.
	Invalidate(rule, sink int, k invalidation.Kind, value []byte)
	// Fallback hands over what replaces values of a template that could not be
	// built, where unknown: names nothing that the sink takes; once for each
	// change, template and sink. f must not be changed, and may be kept.
	Fallback(rule, sink int, f *Fallback)
	// Lookup hands over values that wait for the database's answer; see Fill.
	Lookup(p *Pending)
	// Verdict says what became of a rule, at most once per rule and verdict.
	// Rules that do not match say nothing.
	Verdict(rule int, v Verdict)
}

// Verdict is what became of a rule for one change, for counters.
type Verdict uint8

// The verdicts. Matched comes with every other one.
const (
	// Matched: the rule applies.
	Matched Verdict = iota
	// UnknownCondition: the condition could not be decided and counts as true.
	UnknownCondition
	// UnknownValue: at least one value could not be built, because a column
	// was not carried, an expression failed, or there was too much of it. What
	// the rule's unknown: names was handed over instead, and a Fallback at each
	// sink where that is nothing.
	UnknownValue
	// Failed: the condition could not be decided, or a value not be built, for
	// another reason than a column or a JSON path not carried: an error in the
	// expression, its cost limit, a panic.
	Failed
	// Exceeded: Failed because the expression reached a limit of its work.
	Exceeded
)

// String names the verdict as metrics and logs write it.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

var verdictNames = [...]string{Matched: "matched", UnknownCondition: "unknown_condition", UnknownValue: "unknown_value", Failed: "failed", Exceeded: "exceeded"}
