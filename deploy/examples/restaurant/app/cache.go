package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
	"golang.org/x/sync/singleflight"
)

// Lifetimes of the endpoints' copies, in Valkey and in Varnish.
const (
	menuTTL    = 20 * time.Second
	storeTTL   = 60 * time.Second
	loyaltyTTL = 10 * time.Second
	orderTTL   = 5 * time.Second
	// grace is how long Varnish may serve a page that has expired while it fetches a new one.
	grace = 10 * time.Second
)

// cache keeps pages in Valkey, and says how long Varnish may keep them. Without an address it
// keeps nothing.
type cache struct {
	valkey valkey.Client
	// factor divides all lifetimes, for tests in compressed time; only is the lifetime of all if set.
	factor time.Duration
	only   time.Duration
	// deletes says that writes delete what they make stale; varnish is where pages are purged then.
	deletes bool
	varnish string
	http    *http.Client
	fills   singleflight.Group
}

// page is a cached response. Shown has the versions of what it shows, Tags are for Varnish.
type page struct {
	Shown string          `json:"shown"`
	Tags  string          `json:"tags,omitempty"`
	Body  json.RawMessage `json:"body"`
}

func openCache(env func(string) string) (*cache, error) {
	c := &cache{factor: 1, deletes: env("DELETES") == "1", varnish: env("VARNISH_URL"), http: &http.Client{Timeout: 2 * time.Second}}
	if text := env("TIME_FACTOR"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, errors.New("TIME_FACTOR is not a number above 0")
		}
		c.factor = time.Duration(n)
	}
	if text := env("ONLY_TTL"); text != "" {
		var err error
		if c.only, err = time.ParseDuration(text); err != nil {
			return nil, err
		}
	}
	if env("VALKEY_ADDR") == "" {
		return c, nil
	}
	var err error
	c.valkey, err = valkey.NewClient(valkey.ClientOption{InitAddress: []string{env("VALKEY_ADDR")}, DisableCache: true})
	return c, err
}

func (c *cache) close() {
	if c.valkey != nil {
		c.valkey.Close()
	}
}

func (c *cache) ttl(d time.Duration) time.Duration {
	if c.only > 0 {
		d = c.only
	}
	return d / c.factor
}

// get returns the copy of a page, or makes it and stores the copy. Several requests for one page
// that is missing make it once.
func (c *cache) get(ctx context.Context, key string, ttl time.Duration, load func(context.Context) (page, error)) (page, error) {
	if c.valkey == nil {
		return load(ctx)
	}
	var p page
	raw, err := c.valkey.Do(ctx, c.valkey.B().Get().Key(key).Build()).AsBytes()
	if err == nil && json.Unmarshal(raw, &p) == nil {
		return p, nil
	}
	filled, err, _ := c.fills.Do(key, func() (any, error) {
		// The request that fills may go away, those that wait for it do not.
		ctx := context.WithoutCancel(ctx)
		p, err := load(ctx)
		if err != nil {
			return p, err
		}
		raw, err := json.Marshal(p)
		if err != nil {
			return p, err
		}
		return p, c.valkey.Do(ctx, c.valkey.B().Set().Key(key).Value(string(raw)).Px(c.ttl(ttl)).Build()).Error()
	})
	if err != nil {
		return page{}, err
	}
	return filled.(page), nil
}

// headers tells Varnish how long it may keep a page, and its tags.
func (c *cache) headers(h http.Header, p page, ttl time.Duration) {
	if p.Tags == "" || c.valkey == nil {
		h.Set("Cache-Control", "private, no-store")
		return
	}
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(c.ttl(ttl).Seconds())))
	h.Set("Cache-TTL", seconds(c.ttl(ttl)))
	h.Set("Cache-Grace", seconds(grace/c.factor))
	h.Set("xkey", p.Tags)
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) + "s"
}

// stale names the copies that a write has made stale.
type stale struct{ keys, tags []string }

// forget deletes stale copies after COMMIT, where the application is to do so: Valkey first, as
// Varnish refills from it. It tries three times.
func (c *cache) forget(ctx context.Context, s stale) error {
	if !c.deletes || c.valkey == nil {
		return nil
	}
	// A client that has gone away does not keep old copies alive.
	ctx = context.WithoutCancel(ctx)
	var err error
	for range 3 {
		if err = c.valkey.Do(ctx, c.valkey.B().Del().Key(s.keys...).Build()).Error(); err == nil {
			if err = c.purge(ctx, s.tags); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func (c *cache) purge(ctx context.Context, tags []string) error {
	if len(tags) == 0 {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, "PURGE", c.varnish+"/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("xkey", strings.Join(tags, " "))
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("Varnish answered " + resp.Status)
	}
	return nil
}
