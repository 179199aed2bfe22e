package edge

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaultLife is how long a response is fresh that does not say so: Cloudflare's default for 200.
const defaultLife = 120 * time.Minute

// lifetime is how long a response may be served, counted from when the origin made it.
type lifetime struct {
	// age is what it had already when it came, fresh the time without the origin, and stale the
	// time after that in which it is served while a newer one is fetched.
	age, fresh, stale time.Duration
}

// lifetimeOf reads Cache-Control and Age as a shared cache does (RFC 9111, RFC 5861).
func lifetimeOf(h http.Header) lifetime {
	d := directives(h)
	seconds := func(name string) (time.Duration, bool) {
		text, given := d[name]
		n, err := strconv.ParseUint(text, 10, 31)
		if given && err != nil {
			return 0, true // what cannot be read is stale (RFC 9111, 4.2.1)
		}
		return time.Duration(n) * time.Second, given
	}
	l := lifetime{fresh: defaultLife}
	if life, given := seconds("s-maxage"); given {
		l.fresh = life
	} else if life, given := seconds("max-age"); given {
		l.fresh = life
	}
	_, must := d["must-revalidate"]
	_, proxy := d["proxy-revalidate"]
	if !must && !proxy {
		l.stale, _ = seconds("stale-while-revalidate")
	}
	if n, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil {
		l.age = time.Duration(n) * time.Second
	}
	return l
}

// directives are those of Cache-Control, by name in lower case; of one that is there twice the
// first counts.
func directives(h http.Header) map[string]string {
	out := make(map[string]string)
	for part := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := out[name]; !twice {
			out[name] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return out
}

// varyOf are the request headers that the response was chosen by, sorted; any is set for Vary: *.
func varyOf(h http.Header) (names []string, any bool) {
	for name := range strings.SplitSeq(strings.Join(h.Values("Vary"), ","), ",") {
		switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name {
		case "":
		case "*":
			any = true
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), any
}

// variant is what tells the responses of one URL apart.
func variant(names []string, request http.Header) string {
	var out strings.Builder
	for _, name := range names {
		out.WriteString("\n" + name + ": " + strings.Join(request.Values(name), ", "))
	}
	return out.String()
}

// state is what may be done with a stored response.
type state uint8

const (
	expired state = iota
	serveStale
	fresh
)

func (o *object) state(now time.Time) state {
	switch age := o.age(now); {
	case o.forever || age < o.life.fresh:
		return fresh
	case age < o.life.fresh+o.life.stale:
		return serveStale
	}
	return expired
}

func (o *object) age(now time.Time) time.Duration { return o.life.age + now.Sub(o.stored) }

// flights are the fetches in progress, by key: of concurrent requests for one response one goes
// to the origin.
type flights struct {
	mu    sync.Mutex
	going map[string]chan struct{}
}

// begin starts a fetch, and returns its end; or, where there is one already, what is closed when
// that ends.
func (f *flights) begin(key string) (end func(), other <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done, goes := f.going[key]; goes {
		return nil, done
	}
	if f.going == nil {
		f.going = make(map[string]chan struct{})
	}
	done := make(chan struct{})
	f.going[key] = done
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.going, key)
		close(done)
	}, nil
}
