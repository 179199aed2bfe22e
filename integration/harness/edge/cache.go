package edge

import (
	"net/http"
	"slices"
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
	// forever: it stays until it is purged, and life says nothing.
	forever bool
	life    lifetime
	// variant is that of its URL.
	variant string
}

func (o *object) id() string { return o.key.String() + o.variant }

// cache holds objects by URL and variant, and an index of their URLs and tags.
type cache struct {
	mu      sync.Mutex
	max     int
	objects map[string]*object
	byURL   map[string]map[*object]struct{}
	// vary has for a URL the request headers that its newest response was chosen by.
	vary  map[string][]string
	byTag map[string]map[*object]struct{}
	// purges counts those that took effect.
	purges uint64
}

func newCache(maxObjects int) *cache {
	return &cache{max: maxObjects, objects: map[string]*object{}, byURL: map[string]map[*object]struct{}{}, vary: map[string][]string{}, byTag: map[string]map[*object]struct{}{}}
}

// get finds the response for a request; id names it, whether it is there or not.
func (c *cache) get(key string, request http.Header) (o *object, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id = key + variant(c.vary[key], request)
	return c.objects[id], id
}

// holds reports whether there is a response for the URL.
func (c *cache) holds(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byURL[key]) > 0
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

// put stores an object, in place of an older one of its variant; vary is what tells variants
// apart. With unless it stores it only
// if mark still returns that.
func (c *cache) put(o *object, vary []string, unless *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unless != nil && *unless != c.purges {
		return
	}
	if !slices.Equal(c.vary[o.key.String()], vary) {
		// The others cannot be told apart any more.
		for other := range c.byURL[o.key.String()] {
			c.drop(other)
		}
	}
	c.drop(c.objects[o.id()])
	if len(c.objects) >= c.max {
		for _, any := range c.objects {
			c.drop(any)
			break
		}
	}
	c.objects[o.id()] = o
	url := o.key.String()
	if c.byURL[url] == nil {
		c.byURL[url] = map[*object]struct{}{}
	}
	c.byURL[url][o] = struct{}{}
	if c.vary[url] = vary; len(vary) == 0 {
		delete(c.vary, url)
	}
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
	delete(c.objects, o.id())
	url := o.key.String()
	delete(c.byURL[url], o)
	if len(c.byURL[url]) == 0 {
		delete(c.byURL, url)
		delete(c.vary, url)
	}
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
				for o := range c.byURL[key.String()] {
					dropIf(o)
				}
			}
		}
	case Paths:
		for _, o := range c.objects {
			if coversPath(p.values, o) {
				dropIf(o)
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
