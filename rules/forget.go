package rules

import "slices"

// manyTables is how many tables are forgotten one by one. A pattern of keys costs
// a Valkey a walk through all its keys, so past it the rules of all tables that
// one name's captures mean are told once.
const manyTables = 16

// Forget hands over what invalidates everything that the rules can ever have
// made of the tables' rows, with the captures of the tables' names filled in; what on_truncate:
// names is for a TRUNCATE alone. For many tables at once the rules whose table
// is a pattern speak once, for all tables that it can mean. Tables that no rule
// watches are passed over, and there are no verdicts.
func (s *Set) Forget(tables []Table, out Output) {
	forget := func(id int, r *Rule) {
		for _, sink := range r.Sinks {
			r.forget(id, sink, out)
		}
	}
	var whole []int
	for _, t := range tables {
		for _, id := range s.watching(t) {
			if s.rules[id].pattern == nil || len(tables) <= manyTables {
				r, _ := s.rules[id].in(t)
				forget(id, r)
			} else if !slices.Contains(whole, id) {
				whole = append(whole, id)
				forget(id, s.rules[id])
			}
		}
	}
}
