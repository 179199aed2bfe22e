package rules

import (
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// HostUse is a host that a rule's URL, or prefix of URLs, names.
type HostUse struct {
	// Host is in lower case and without a port.
	Host string
	Rule string
	File string
	Line int
}

var hostForm = regexp.MustCompile(`^(?:https?://)?(` + host + `)`)

// Hosts lists the hosts of the URLs and prefixes of URLs that rules give a sink,
// in the order of the rules. Templates have theirs as literal text, so it is
// known before any row is.
func (s *Set) Hosts(sink int) []HostUse {
	var out []HostUse
	for _, r := range s.rules {
		use := func(value string, line int) {
			name, _, _ := strings.Cut(hostForm.FindStringSubmatch(value)[1], ":")
			u := HostUse{Host: strings.ToLower(name), Rule: r.Name, File: r.File, Line: line}
			if !slices.Contains(out, u) {
				out = append(out, u)
			}
		}
		for _, kind := range []invalidation.Kind{invalidation.URL, invalidation.URLPrefix} {
			for _, t := range r.values[kind] {
				if slices.Contains(t.sinks, sink) {
					head, _ := t.head()
					use(head, t.line)
				}
			}
			if slices.Contains(r.routes[kind], sink) {
				for _, l := range []*literals{&r.unknown, &r.onTruncate} {
					for _, v := range l.values[kind] {
						use(string(v), r.Line)
					}
				}
			}
		}
	}
	return out
}
