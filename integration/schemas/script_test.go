package schemas

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

// script is one random test, and all that is needed to repeat it.
type script struct {
	seed uint64
	// setup makes the schema before walpurge starts; watch are the rules.
	setup []string
	watch []watch
	steps []step
}

// step is what happens between two comparisons.
type step struct {
	// kind is "" for statements, or an event of the daemon.
	kind string
	// sql are statements that no comparison comes between.
	sql []string
	// rules are the names of those that are in service from a reload on.
	rules []string
}

const (
	stop  = "stop"
	start = "start"
	// kill ends the daemon in the middle of the step's statements: nothing that it would store from then on is stored.
	kill = "kill"
	// reload replaces the rules right after the step's statements.
	reload = "reload"
	// other begins a statement of another session, whose transaction stays open until its next one.
	other = "OTHER "
)

// watch is a rule, and the query behind its keys.
type watch struct {
	name  string
	table cdc.Table
	// pattern is the table as the rule names it, where it is one of a pattern's.
	pattern string
	// yaml is the rule without its name and table, empty where another watch of the same rule has it.
	yaml string
	// key is an SQL expression over the row t, and cond a condition on it.
	key, cond string
	// updates reports that the rule is for UPDATE alone: only what one changes counts.
	updates bool
	// reads are the columns that the query behind the key answers, all of them if it is empty.
	reads []string
}

// place tells apart the watches of a rule for several tables.
func (w *watch) place() string { return w.name + " " + w.table.String() }

// rules is the file with the rules of these names, nil for all.
func (s *script) rules(names []string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, w := range s.watch {
		if w.yaml != "" && (names == nil || slices.Contains(names, w.name)) {
			fmt.Fprintf(&b, "  - name: %s\n    table: '%s'\n%s", w.name, cmp.Or(w.pattern, w.table.String()), w.yaml)
		}
	}
	return b.String()
}

// String is the script for a person who repeats it.
func (s *script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- seed %d\n%s-- before the start\n", s.seed, s.rules(nil))
	for _, sql := range s.setup {
		b.WriteString(sql + ";\n")
	}
	for i, st := range s.steps {
		if st.kind != "" {
			fmt.Fprintf(&b, "-- step %d: %s %s\n%s;\n", i, st.kind, strings.Join(st.rules, " "), strings.Join(st.sql, ";\n"))
			continue
		}
		fmt.Fprintf(&b, "-- step %d\n%s;\n", i, strings.Join(st.sql, ";\n"))
	}
	return b.String()
}

// less is the script without statement n of step i, or without the step.
func (s *script) less(i, n int) *script {
	out := *s
	out.steps = slices.Clone(s.steps)
	if out.steps[i].sql = slices.Delete(slices.Clone(s.steps[i].sql), n, min(n+1, len(s.steps[i].sql))); len(out.steps[i].sql) == 0 {
		out.steps = slices.Delete(out.steps, i, i+1)
	}
	return &out
}
