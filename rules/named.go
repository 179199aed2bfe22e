package rules

import (
	"fmt"
	"slices"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/rules/urlvariant"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// AnySink is the sink of rules that name none where there is no configuration.
const AnySink = "any"

// NamedSinks are the sinks that rules files name, sorted, and AnySink where a
// rule leaves open which; each takes every kind. They stand in for the
// configured ones where rules are looked at without a configuration. A file
// that cannot be read is an error; what else is wrong with it is for Load.
func NamedSinks(files []string) ([]SinkSpec, error) {
	var names []string
	add := func(texts []strictyaml.Text) {
		for _, t := range texts {
			names = append(names, t.Value)
		}
	}
	for _, file := range files {
		data, err := readfile.Read(file, strictyaml.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		doc, err := strictyaml.Parse(file, data)
		if err != nil {
			continue
		}
		var raw rawFile
		_ = doc.Decode(&raw) // what could be read is in raw, the rest is Load's to report
		add(raw.Defaults.Sinks)
		for i := range raw.Rules {
			f := &raw.Rules[i].f
			add(f.Sinks)
			for _, to := range f.To.sinks {
				names = append(names, to.Key)
			}
			if f.Sinks == nil && raw.Defaults.Sinks == nil {
				names = append(names, AnySink)
			}
		}
	}
	slices.Sort(names)
	var out []SinkSpec
	for _, name := range slices.Compact(names) {
		out = append(out, SinkSpec{Name: name, Takes: 1<<invalidation.NumKinds - 1, Headers: urlvariant.HeaderUse{Taken: true}})
	}
	return out, nil
}
