package config

import (
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// purgingKeys are the keys of a sink that have no meaning where nothing is purged.
var purgingKeys = []string{"max_wait", "second_purge", "max_backlog", "on_overflow", "formerly", "flush"}

// warm reads a sink of the kind warm. names are all sinks, warms those of this kind.
func (l *loader) warm(name string, at strictyaml.Pos, raw *rawSink, names, warms []string) Warm {
	w := Warm{Name: name, Pos: at, Config: &raw.Warm.Keys}
	if others := raw.Kinds.given(); len(others) > 0 {
		l.failf(at, "sink %s has %d kinds; give it exactly one of %s", name, len(others)+1, strings.Join(kindNames(), ", "))
	}
	if err := w.Config.Known(l.unset).Validate(); err != nil {
		l.each(raw.Warm.pos, err, "")
	}
	w.Takes = l.takes(raw.Takes, w.Config.Kinds(), nil)
	for _, t := range raw.After {
		switch {
		case !slices.Contains(names, t.Value):
			l.failf(t.Pos(), "after: no sink %s%s", t, strictyaml.DidYouMean(t.Value, names))
		case slices.Contains(warms, t.Value):
			l.failf(t.Pos(), "after: %s warms pages and purges nothing; name the sink that purges the edge", t)
		default:
			w.After = append(w.After, t.Value)
		}
	}
	if hot := w.Config.Hot; hot != "" && !slices.Contains(w.After, hot) {
		l.failf(raw.Warm.pos, "hot: %s is not a sink of after%s", hot, strictyaml.DidYouMean(hot, w.After))
	}
	if len(raw.After) == 0 {
		l.failf(at, "sink %s warms pages before they are purged; write after: [NAME] with the sink that purges the edge", name)
	}
	given := []strictyaml.Pos{raw.MaxWait.Pos, raw.SecondPurge.Pos, raw.MaxBacklog.Pos, raw.OnOverflow.Pos(), raw.Formerly.Pos(), {}}
	if raw.Flush != nil {
		given[len(given)-1] = at
	}
	for i, key := range purgingKeys {
		if !given[i].IsZero() {
			l.failf(given[i], "%s is for sinks that purge; sink %s warms pages, and drops what is older than warm.max_age: remove the key", key, name)
		}
	}
	w.Shadow = l.oneOf(raw.Mode, "mode", "purge", "shadow") == "shadow"
	w.Withheld = l.withheld(raw)
	return w
}

// warmInTime refuses a max_age that has passed before pages are fetched, and hot pages of a sink that cannot tell them.
func (l *loader) warmInTime(cfg *Config) {
	for _, w := range cfg.Warms {
		for _, s := range cfg.Sinks {
			if s.Name == w.Config.Hot && !s.Config.Traits().TellsPages {
				l.failf(w.Pos, "sink %s: warm.hot: answers of %s, a sink of the kind %s, do not say whether a page existed; remove the key, and all pages are warmed",
					w.Name, s.Name, s.Config.Kind())
			}
			if slices.Contains(w.After, s.Name) && s.SecondPurge >= w.Config.MaxAge {
				l.failf(w.Pos, "sink %s: warm.max_age is %s, and pages are fetched after the second purge of %s, %s after the first; write a longer max_age",
					w.Name, w.Config.MaxAge, s.Name, s.SecondPurge)
			}
		}
	}
}
