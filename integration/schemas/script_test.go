package schemas

import (
	"fmt"
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
	sql  string
}

const (
	stop  = "stop"
	start = "start"
)

// watch is a rule, and the query behind its keys.
type watch struct {
	name  string
	table cdc.Table
	// yaml is the rule without its name and table.
	yaml string
	// key is an SQL expression over the row t, and cond a condition on it.
	key, cond string
	// reads are the columns that the query behind the key answers, all of them if it is empty.
	reads []string
}

func (s *script) rules() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, w := range s.watch {
		fmt.Fprintf(&b, "  - name: %s\n    table: '%s'\n%s", w.name, w.table, w.yaml)
	}
	return b.String()
}

// String is the script for a person who repeats it.
func (s *script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- seed %d\n%s-- before the start\n", s.seed, s.rules())
	for _, sql := range s.setup {
		b.WriteString(sql + ";\n")
	}
	for i, st := range s.steps {
		if st.kind != "" {
			fmt.Fprintf(&b, "-- step %d: %s\n", i, st.kind)
			continue
		}
		fmt.Fprintf(&b, "-- step %d\n%s;\n", i, st.sql)
	}
	return b.String()
}

// without is the script with fewer steps.
func (s *script) without(i int) *script {
	out := *s
	out.steps = append(append([]step(nil), s.steps[:i]...), s.steps[i+1:]...)
	return &out
}
