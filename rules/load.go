package rules

import (
	"fmt"
	"slices"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Load reads and compiles rules files. It returns strictyaml.Errors with all
// that can be known to be wrong without a database, in the order of the files.
func Load(files []string, opts Options) (*Set, error) {
	l := newLoader(opts)
	for _, file := range files {
		data, err := readfile.Read(file, strictyaml.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		l.file(file, data)
	}
	return l.finish()
}

// Parse compiles one rules file that is already in memory; file is its name
// for messages.
func Parse(file string, data []byte, opts Options) (*Set, error) {
	l := newLoader(opts)
	l.file(file, data)
	return l.finish()
}

// loader gathers the rules and the findings of all files.
type loader struct {
	opts  Options
	names []string // of sinks
	env   *celEnv
	vars  vars // of the file at hand
	errs  strictyaml.Errors
	rules []*Rule
	seen  map[string]*Rule
}

func newLoader(opts Options) *loader {
	l := &loader{opts: opts, seen: map[string]*Rule{}}
	for _, s := range opts.Sinks {
		l.names = append(l.names, s.Name)
	}
	return l
}

func (l *loader) finish() (*Set, error) {
	if err := l.errs.Err(); err != nil {
		return nil, err
	}
	s := &Set{rules: l.rules, byTable: map[Table][]int{}, byMessage: map[string][]int{}, sinks: slices.Clone(l.opts.Sinks)}
	for i, r := range l.rules {
		if r.Message != "" {
			s.byMessage[r.Message] = append(s.byMessage[r.Message], i)
			continue
		}
		if r.pattern != nil {
			s.patterns = append(s.patterns, i)
			continue
		}
		s.byTable[r.Table] = append(s.byTable[r.Table], i)
	}
	return s, nil
}

func (l *loader) file(file string, data []byte) {
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		l.errs.Add(file, strictyaml.Pos{}, err)
		return
	}
	var raw rawFile
	before := len(l.errs)
	l.errs.Add(file, strictyaml.Pos{}, doc.Decode(&raw))
	l.vars = l.fileVars(file, raw.Vars)
	// After a finding about keys and types, only the rules that were read
	// whole are looked at further: what follows from a slip is noise.
	broken := map[int]bool{}
	for _, e := range l.errs[before:] {
		broken[e.Line] = true
	}
	defaults := l.sinkList(file, "defaults", raw.Defaults.Sinks)
	for i := range raw.Rules {
		last := int(^uint(0) >> 1)
		if i+1 < len(raw.Rules) && raw.Rules[i+1].node != nil {
			last = raw.Rules[i+1].node.Pos.Line
		}
		if raw.Rules[i].node == nil || anyBetween(broken, raw.Rules[i].node.Pos.Line, last) {
			continue
		}
		l.rule(file, &raw.Rules[i], defaults)
	}
}

func anyBetween(lines map[int]bool, from, before int) bool {
	for line := range lines {
		if line >= from && line < before {
			return true
		}
	}
	return false
}

// sinkList resolves names to indices; nil when the list was not given.
func (l *loader) sinkList(file, owner string, names []strictyaml.Text) []int {
	if names == nil {
		return nil
	}
	out := []int{}
	wanted := make([]bool, len(l.names))
	for _, n := range names {
		found := false
		for i := range l.names {
			if l.names[i] == n.Value {
				if wanted[i] {
					l.errs.Addf(file, n.Pos(), "%s: sink %q is named twice", owner, n.Value)
				}
				wanted[i], found = true, true
			}
		}
		if !found {
			l.errs.Addf(file, n.Pos(), "%s: there is no sink %q%s", owner, n.Value, strictyaml.DidYouMean(n.Value, l.names))
		}
	}
	for i := range wanted {
		if wanted[i] {
			out = append(out, i)
		}
	}
	return out
}
