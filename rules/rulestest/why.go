package rulestest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules"
)

// why says, for a test that lacks values, which templates came to nothing, or why no rule
// matched: the first thing that one asks.
func (s *Suite) why(t *test, diff []string) []string {
	lacks := slices.ContainsFunc(diff, func(line string) bool { return strings.HasPrefix(line, "  - ") })
	if !lacks || t.event.Message != nil {
		return nil
	}
	var out []string
	say := func(format string, args ...any) {
		if line := fmt.Sprintf("  "+format, args...); !slices.Contains(out, line) && len(out) < shown {
			out = append(out, line)
		}
	}
	all := s.set.Explain(context.Background(), t.event.Change, t.event.Answer)
	matched := slices.ContainsFunc(all, func(e rules.Explanation) bool { return e.Matched })
	for _, e := range all {
		if !matched {
			say("? rule %s: %s", e.Rule, e.Why)
		}
		for _, x := range e.Templates {
			if x.Skipped != "" {
				say("? rule %s: %s %s: nothing, %s", e.Rule, x.Kind, x.Template, x.Skipped)
			}
		}
		for _, l := range e.Lookups {
			if l.Skipped != "" {
				say("? rule %s: lookup %s: nothing, %s", e.Rule, l.Lookup, l.Skipped)
			}
		}
	}
	return out
}
