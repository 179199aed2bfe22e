package strictyaml

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Findings with the same cause are one, with the other places; others stay as they are, and
// what was grouped once can be grouped again with the findings of another file.
func TestFindingsOfOneCauseAreOne(t *testing.T) {
	var all Errors
	for line := 28; line > 0; line-- {
		all = append(all, &Error{File: "a.yaml", Line: line, Column: 3, Msg: fmt.Sprintf("rule %q: no sink takes a tag", fmt.Sprint(line)), Same: "no sink takes a tag"})
	}
	all.Addf("a.yaml", Pos{Line: 2, Column: 1}, "something else")
	all.Addf("a.yaml", Pos{Line: 3, Column: 1}, "something else")
	err := all.Err()
	const grouped = `a.yaml:1:3: rule "1": no sink takes a tag; and 27 more places: a.yaml:2, a.yaml:3, a.yaml:4, a.yaml:5, a.yaml:6, ...
a.yaml:2:1: something else
a.yaml:3:1: something else`
	require.EqualError(t, err, grouped)
	require.Equal(t, err.Error(), errors.Join(err.(Errors).Unwrap()...).Error())

	var both Errors
	both = append(both, &Error{File: "b.yaml", Line: 7, Column: 1, Msg: "no sink takes a tag", Same: "no sink takes a tag"})
	both.Add("", Pos{}, err)
	require.ErrorContains(t, both.Err(), "b.yaml:7:1: no sink takes a tag; and 28 more places: a.yaml:1, a.yaml:2, ")
	require.EqualError(t, err, grouped, "the parts are as they were")
	require.EqualError(t, both[:2].Err(), `b.yaml:7:1: no sink takes a tag; and 28 more places: a.yaml:1, a.yaml:2, a.yaml:3, a.yaml:4, a.yaml:5, ...`)
}
