package edge

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// object is one stored response. It does not change once stored.
type object struct {
	key    cacheKey
	header http.Header
	body   []byte
	tags   []string
	stored time.Time
}

// cache holds objects by URL, and an index of their tags.
type cache struct {
	mu      sync.Mutex
	max     int
	objects map[string]*object
	byTag   map[string]map[*object]struct{}
	// purges counts those that took effect.
	purges uint64
}

func newCache(maxObjects int) *cache {
	return &cache{max: maxObjects, objects: map[string]*object{}, byTag: map[string]map[*object]struct{}{}}
}

func (c *cache) get(key string) *object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[key]
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.objects)
}

// mark returns a number that changes whenever a purge takes effect.
func (c *cache) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.purges
}

// put stores an object, in place of an older one. With unless it stores it only
// if mark still returns that.
func (c *cache) put(o *object, unless *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unless != nil && *unless != c.purges {
		return
	}
	c.drop(c.objects[o.key.String()])
	if len(c.objects) >= c.max {
		for _, any := range c.objects {
			c.drop(any)
			break
		}
	}
	c.objects[o.key.String()] = o
	for _, tag := range o.tags {
		if c.byTag[tag] == nil {
			c.byTag[tag] = map[*object]struct{}{}
		}
		c.byTag[tag][o] = struct{}{}
	}
}

func (c *cache) drop(o *object) {
	if o == nil {
		return
	}
	delete(c.objects, o.key.String())
	for _, tag := range o.tags {
		delete(c.byTag[tag], o)
		if len(c.byTag[tag]) == 0 {
			delete(c.byTag, tag)
		}
	}
}

// purge drops what the purge names in the zone.
func (c *cache) purge(p purge, zone Zone) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purges++
	dropIf := func(o *object) {
		if o != nil && zone.holds(o.key.host) {
			c.drop(o)
		}
	}
	switch p.kind {
	case Tags:
		for _, tag := range p.values {
			for o := range c.byTag[strings.ToLower(tag)] {
				dropIf(o)
			}
		}
	case Files:
		for _, file := range p.values {
			if key, err := keyOfURL(file); err == nil {
				dropIf(c.objects[key.String()])
			}
		}
	default:
		for _, o := range c.objects {
			if p.covers(o.key) {
				dropIf(o)
			}
		}
	}
}

// covers reports whether a purge by host, by prefix or of everything names the
// key. A prefix is compared as text, after its host: www.x.com/a covers /ab.
func (p purge) covers(key cacheKey) bool {
	for _, value := range p.values {
		switch p.kind {
		case Hosts:
			if strings.EqualFold(value, key.host) {
				return true
			}
		case Prefixes:
			host, path, _ := strings.Cut(value, "/")
			if strings.EqualFold(host, key.host) && strings.HasPrefix(key.path, "/"+path) {
				return true
			}
		}
	}
	return p.kind == Everything
}

// headerBytes is the most of all Cache-Tag headers of a response that counts.
const headerBytes = 16 << 10

// tagsOf reads Cache-Tag headers: names separated by commas, without regard to
// case, spaces around them or empty ones.
func tagsOf(h http.Header) []string {
	all := strings.Join(h.Values("Cache-Tag"), ",")
	if len(all) > headerBytes {
		// What is cut through is lost, not shortened to another tag.
		all = all[:headerBytes+1]
		all = all[:max(0, strings.LastIndexByte(all, ','))]
	}
	seen := map[string]bool{}
	var tags []string
	for tag := range strings.SplitSeq(strings.ToLower(all), ",") {
		if tag = strings.TrimSpace(tag); tag != "" && !seen[tag] {
			seen[tag] = true
			tags = append(tags, tag)
		}
	}
	return tags
}
