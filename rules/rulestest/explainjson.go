package rulestest

import (
	"bytes"
	"encoding/json"

	"github.com/walpurge/walpurge/rules"
)

// MarshalExplanations returns them as one line of JSON, with names for users and
// not those of the code.
func MarshalExplanations(explained []rules.Explanation) ([]byte, error) {
	type column struct {
		Image  string `json:"image"`
		Column string `json:"column"`
		State  string `json:"state"`
		Value  string `json:"value"`
	}
	type term struct {
		Source  string   `json:"source"`
		Result  string   `json:"result"`
		Error   string   `json:"error,omitempty"`
		Columns []column `json:"columns"`
	}
	type tried struct {
		Image  string `json:"image"`
		Result string `json:"result"`
		Error  string `json:"error,omitempty"`
		Terms  []term `json:"terms"`
	}
	type instead struct {
		Sink   string `json:"sink"`
		Kind   string `json:"kind,omitempty"`
		Value  string `json:"value,omitempty"`
		Parked bool   `json:"parked,omitempty"`
	}
	type template struct {
		Kind     string    `json:"kind"`
		Template string    `json:"template"`
		Sinks    []string  `json:"sinks"`
		Image    string    `json:"image,omitempty"`
		Values   []string  `json:"values"`
		Skipped  string    `json:"skipped,omitempty"`
		Unknown  bool      `json:"unknown"`
		Instead  []instead `json:"instead,omitempty"`
	}
	type asked struct {
		Lookup  string   `json:"lookup"`
		Image   string   `json:"image,omitempty"`
		SQL     string   `json:"sql"`
		Args    []string `json:"args"`
		Rows    int      `json:"rows"`
		Skipped string   `json:"skipped,omitempty"`
		Unknown bool     `json:"unknown"`
	}
	type step struct {
		Over      int        `json:"over"`
		Templates []template `json:"templates"`
	}
	type purge struct {
		Sink     string `json:"sink"`
		Kind     string `json:"kind"`
		Value    string `json:"value"`
		Withheld bool   `json:"withheld,omitempty"`
		For      string `json:"for,omitempty"`
		Parked   bool   `json:"parked,omitempty"`
	}
	type explanation struct {
		Rule      string     `json:"rule"`
		File      string     `json:"file"`
		Line      int        `json:"line"`
		Matched   bool       `json:"matched"`
		Why       string     `json:"why"`
		Tried     []tried    `json:"tried"`
		Templates []template `json:"templates"`
		Lookups   []asked    `json:"lookups,omitempty"`
		Collapse  []step     `json:"collapse,omitempty"`
		Every     string     `json:"every,omitempty"`
		Purges    []purge    `json:"purges"`
	}
	all := []explanation{}
	for _, e := range explained {
		x := explanation{Rule: e.Rule, File: e.File, Line: e.Line, Matched: e.Matched, Why: e.Why, Tried: []tried{}, Templates: []template{}, Purges: []purge{}}
		for _, t := range e.Tried {
			y := tried{Image: t.Image, Result: t.Result, Error: t.Error, Terms: []term{}}
			for _, p := range t.Terms {
				z := term{Source: p.Source, Result: p.Result, Error: p.Error, Columns: []column{}}
				for _, c := range p.Columns {
					z.Columns = append(z.Columns, column(c))
				}
				y.Terms = append(y.Terms, z)
			}
			x.Tried = append(x.Tried, y)
		}
		expansion := func(t rules.Expansion) template {
			x := template{t.Kind.String(), t.Template, append([]string{}, t.Sinks...), t.Image, append([]string{}, t.Values...), t.Skipped, t.Unknown, nil}
			for _, i := range t.Instead {
				y := instead{Sink: i.Sink, Parked: i.Parked()}
				if !y.Parked {
					y.Kind, y.Value = i.Kind.String(), i.Value
				}
				x.Instead = append(x.Instead, y)
			}
			return x
		}
		for _, t := range e.Templates {
			x.Templates = append(x.Templates, expansion(t))
		}
		for _, s := range e.Steps {
			y := step{Over: s.Over}
			for _, t := range s.Templates {
				y.Templates = append(y.Templates, expansion(t))
			}
			x.Collapse = append(x.Collapse, y)
		}
		if e.Every > 0 {
			x.Every = e.Every.String()
		}
		for _, q := range e.Lookups {
			x.Lookups = append(x.Lookups, asked{q.Lookup, q.Image, q.SQL, append([]string{}, q.Args...), q.Rows, q.Skipped, q.Unknown})
		}
		for _, p := range e.Purges {
			x.Purges = append(x.Purges, purge{p.Sink, p.Kind.String(), p.Value, p.Withheld, p.For, p.Parked})
		}
		all = append(all, x)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(all)
	return out.Bytes(), err
}
