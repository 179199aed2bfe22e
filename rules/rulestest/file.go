package rulestest

import (
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// rawFile is a rule test file as written. Keys that a later version gives
// a meaning are fields too, so that they are refused by name.
type rawFile struct {
	Rules   []strictyaml.Text `yaml:"rules"`
	Catalog strictyaml.Text   `yaml:"catalog"`
	Tests   []rawTest         `yaml:"tests"`
}

// rawTest is one entry of tests:.
type rawTest struct {
	node *strictyaml.Node
	f    rawFields
}

type rawFields struct {
	Name   strictyaml.Text         `yaml:"name"`
	Change rawChange               `yaml:",inline"`
	Repeat strictyaml.Located[int] `yaml:"repeat"`
	Expect *strictyaml.Node        `yaml:"expect"`
}

// rawChange is a change as written, in a test and for explain.
type rawChange struct {
	Table    strictyaml.Text          `yaml:"table"`
	Insert   row                      `yaml:"insert"`
	Update   *rawUpdate               `yaml:"update"`
	Delete   row                      `yaml:"delete"`
	Truncate strictyaml.Located[bool] `yaml:"truncate"`
	Message  *rawMessage              `yaml:"message"`
	Identity *strictyaml.Node         `yaml:"identity"`
	Lookup   strictyaml.Map[[]row]    `yaml:"lookup"`
}

type rawUpdate struct {
	Old row `yaml:"old"`
	New row `yaml:"new"`
}

// row is column by column, in the order of the file; nil if it was not given.
type row = strictyaml.Map[*strictyaml.Node]

// UnmarshalYAML keeps the node, for the test's place.
func (r *rawTest) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	if n.Kind == strictyaml.Null {
		return n.Errorf("there is no test here; write one or remove the dash")
	}
	return n.Decode(&r.f)
}

// loader gathers the findings of one file.
type loader struct {
	file string
	errs strictyaml.Errors
	// catalog is nil where types are guessed. set has the rules, for notes on what a
	// row should hold with a catalog; without it there are none.
	catalog *rules.Catalog
	set     *rules.Set
	notes   []string
}

func (l *loader) failf(at strictyaml.Pos, format string, args ...any) {
	l.errs.Addf(l.file, at, format, args...)
}
