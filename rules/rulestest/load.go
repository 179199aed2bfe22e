package rulestest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// maxRepeat bounds one test's changes, so that a slip does not take minutes.
const maxRepeat = 100_000

// Options are what a rule test file is run against.
type Options struct {
	// Sinks are the configured sinks. Without any, those that the rules name stand
	// in for them, and each takes every kind.
	Sinks []rules.SinkSpec
}

// Suite is one rule test file, read and found sound, with its rules.
type Suite struct {
	// File is the path that it was read from.
	File string

	set   *rules.Set
	sinks []string
	tests []test
	// guessed says that sinks stand in for configured ones.
	guessed bool
}

type test struct {
	name   string
	line   int
	event  *Event
	repeat int
	expect bySink
	notes  []string
}

// Load reads a rule test file and the rules that it names. Its errors are
// strictyaml.Errors with all that is wrong in the file, or in the rules; or say
// that a file cannot be read.
func Load(path string, opts Options) (*Suite, error) {
	data, err := readfile.Read(path, strictyaml.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read rule tests: %w", err)
	}
	doc, err := strictyaml.Parse(path, data)
	if err != nil {
		return nil, err
	}
	var raw rawFile
	if err := doc.Decode(&raw); err != nil {
		return nil, err
	}
	l := &loader{file: path}
	l.lock(raw.Catalog)
	files := l.rules(raw.Rules)
	if len(raw.Tests) == 0 {
		l.failf(strictyaml.Pos{}, "there are no tests; write some below `tests:`")
	}
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	sinks := opts.Sinks
	if len(sinks) == 0 {
		if sinks, err = rules.NamedSinks(files); err != nil {
			return nil, err
		}
		sinks = withExpected(sinks, raw.Tests)
	}
	set, err := rules.Load(files, rules.Options{Sinks: sinks, Catalog: l.catalog, WholeRollout: true})
	if err != nil {
		return nil, err
	}
	l.set = set
	s := &Suite{File: path, set: set, guessed: len(opts.Sinks) == 0}
	for _, sink := range sinks {
		s.sinks = append(s.sinks, sink.Name)
	}
	seen := map[string]int{}
	for i := range raw.Tests {
		l.test(s, &raw.Tests[i], seen)
	}
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// withExpected adds the sinks that tests expect something of, where a rule
// leaves open which there are.
func withExpected(sinks []rules.SinkSpec, tests []rawTest) []rules.SinkSpec {
	named := func(name string) func(rules.SinkSpec) bool {
		return func(s rules.SinkSpec) bool { return s.Name == name }
	}
	open := slices.IndexFunc(sinks, named(rules.AnySink))
	if open < 0 {
		return sinks
	}
	for i := range tests {
		if tests[i].f.Expect == nil {
			continue
		}
		for _, p := range tests[i].f.Expect.Pairs {
			if p.Value.Kind == strictyaml.Mapping && !slices.Contains(kindWords(), p.Key) && !slices.ContainsFunc(sinks, named(p.Key)) {
				sinks = append(sinks, rules.SinkSpec{Name: p.Key, Takes: sinks[open].Takes})
			}
		}
	}
	slices.SortFunc(sinks, func(a, b rules.SinkSpec) int { return cmp.Compare(a.Name, b.Name) })
	return sinks
}

// lock reads the catalog that the file names, relative to it.
func (l *loader) lock(name strictyaml.Text) {
	if !name.Given() {
		return
	}
	path := name.Value
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.file), path)
	}
	var err error
	if l.catalog, err = rules.LoadCatalog(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("catalog: %s is not there; write it with `walpurge rules lock`", path)
		}
		l.errs.Add(l.file, name.Pos(), err)
	}
}

// rules finds the rules files; each pattern must match something.
func (l *loader) rules(patterns []strictyaml.Text) []string {
	if len(patterns) == 0 {
		l.failf(strictyaml.Pos{}, "`rules` is missing; write `rules: [rules/*.yaml]`, relative to this file")
	}
	files, err := rules.Files(l.file, patterns)
	l.errs.Add(l.file, strictyaml.Pos{}, err)
	return files
}

// watched makes sure that rules have to do with the event, and with its lookups.
func (l *loader) watched(s *Suite, raw *rawChange, e *Event) {
	if e.Message != nil {
		if err := e.Unwatched(s.set); err != nil && e.Message.Prefix != "" {
			l.failf(raw.Message.Prefix.Pos(), "%v", err)
		}
		return
	}
	table := cdc.Table{Schema: e.Change.Rel.Schema, Name: e.Change.Rel.Name}
	if table.Name == "" {
		return
	}
	if err := e.Unwatched(s.set); err != nil {
		l.failf(raw.Table.Pos(), "%v", err)
		return
	}
	names := lookupsOf(s.set, table)
	for _, given := range raw.Lookup {
		if !slices.Contains(names, given.Key) {
			l.failf(given.Pos, "lookup: no rule of %s has a lookup %q%s", table, given.Key, strictyaml.DidYouMean(given.Key, names))
		}
	}
}

func (l *loader) test(s *Suite, raw *rawTest, seen map[string]int) {
	f, at := &raw.f, raw.node.Pos
	switch first, taken := seen[f.Name.Value]; {
	case f.Name.Value == "":
		l.failf(at, "this test has no name; add `name:`, it is what a failure shows")
	case taken:
		l.failf(f.Name.Pos(), "the name is taken by the test in line %d", first)
	default:
		seen[f.Name.Value] = at.Line
	}
	l.notes = nil
	t := test{name: f.Name.Value, line: at.Line, repeat: 1, event: l.event(&f.Change, at), expect: l.expect(f.Expect, at, s.sinks)}
	t.notes = l.notes
	l.watched(s, &f.Change, t.event)
	if f.Repeat.Pos.IsZero() {
		s.tests = append(s.tests, t)
		return
	}
	t.repeat = f.Repeat.Value
	if t.event.Message != nil {
		l.failf(f.Repeat.Pos, "repeat counts a column up, and a message has none")
		return
	}
	rel := t.event.Change.Rel
	id := rel.Index("id")
	switch {
	case t.repeat < 1 || t.repeat > maxRepeat:
		l.failf(f.Repeat.Pos, "repeat: %d; write a number from 1 to %d", t.repeat, maxRepeat)
	case t.repeat > 1 && (id < 0 || !whole(rel.Columns[id].TypeOID)):
		l.failf(f.Repeat.Pos, "repeat counts the column `id` up, and the change has none with a whole number")
	}
	s.tests = append(s.tests, t)
}
