package cloudflare

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
)

// zones are the zones of a sink, each once.
type zones struct {
	list []zone
	// byHost are places in list; nil when there is one zone, of any host.
	byHost map[string]int
}

type zone struct {
	id string
	// name is a host of it, for errors; empty for the only zone.
	name string
}

func newZones(c Config) zones {
	if len(c.Zones) == 0 {
		return zones{list: []zone{{id: c.ZoneID}}}
	}
	z := zones{byHost: make(map[string]int, len(c.Zones))}
	for _, host := range slices.Sorted(maps.Keys(c.Zones)) {
		id := c.Zones[host]
		i := slices.IndexFunc(z.list, func(z zone) bool { return z.id == id })
		if i < 0 {
			i = len(z.list)
			z.list = append(z.list, zone{id: id, name: host})
		}
		z.byHost[host] = i
	}
	return z
}

// of finds the zone of a host, which is in lower case and has no port.
func (z zones) of(host string) (int, bool) {
	if z.byHost == nil {
		return 0, true
	}
	for {
		if i, ok := z.byHost[host]; ok {
			return i, true
		}
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return 0, false
		}
		host = parent
	}
}

// every means all zones.
const every = -1

// place checks an invalidation and finds its zone.
func (z zones) place(inv invalidation.Invalidation) (int, error) {
	var host string
	var err error
	switch inv.Kind {
	case invalidation.Tag:
		return every, checkTag(inv.Value)
	case invalidation.Everything:
		return every, nil
	case invalidation.URL:
		text, _, cut := urlvariant.Cut(inv.Value)
		if host, err = checkURL(text); cut != nil {
			err = cut
		}
	case invalidation.URLPrefix:
		host, err = checkPrefix(inv.Value)
	default:
		return 0, fmt.Errorf("cannot purge by %s; send tags, urls, url_prefixes or everything", inv.Kind)
	}
	if err != nil {
		return 0, err
	}
	i, ok := z.of(host)
	if !ok {
		return 0, fmt.Errorf("a %s whose host is in none of the zones; add the host's zone to zones", inv.Kind)
	}
	return i, nil
}

// requests is how many requests a call makes, at most.
func (z zones) requests(batch []invalidation.Invalidation) int {
	if len(z.list) == 1 {
		return 1
	}
	used := make(map[int]bool, len(z.list))
	for _, inv := range batch {
		i, err := z.place(inv)
		switch {
		case err != nil:
		case i == every:
			return len(z.list)
		default:
			used[i] = true
		}
	}
	return len(used)
}
