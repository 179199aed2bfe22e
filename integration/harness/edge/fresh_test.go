package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// timed is an origin whose answers have the headers that a test sets, and count by path.
type timed struct {
	mu      sync.Mutex
	headers http.Header
	served  map[string]int
	// before, where it is set, is called before an answer, with its number.
	before func(n int)
}

func (o *timed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	if o.served == nil {
		o.served = map[string]int{}
	}
	o.served[r.URL.Path]++
	n, before := o.served[r.URL.Path], o.before
	for name, values := range o.headers {
		w.Header()[name] = values
	}
	o.mu.Unlock()
	if before != nil {
		before(n)
	}
	fmt.Fprintf(w, "%s %d", r.Header.Get("Accept-Language"), n)
}

func (o *timed) answers(headers ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.headers = http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		o.headers.Add(headers[i], headers[i+1])
	}
}

func timedBench(t *testing.T) (*bench, *timed) {
	origin := &timed{}
	b := newBench(t, func(c *Config) { c.Origin, c.ObeyCacheControl = origin, true })
	return b, origin
}

func (b *bench) passes(d time.Duration) { b.clock.now = b.clock.now.Add(d) }

func TestAges(t *testing.T) {
	for control, life := range map[string]time.Duration{
		"max-age=60": time.Minute, "max-age=10, s-maxage=60": time.Minute, "S-MaxAge=60, public, max-age=10": time.Minute, `max-age="60"`: time.Minute,
		"max-age=60, max-age=10": time.Minute, "public": 2 * time.Hour, "": 2 * time.Hour,
		"max-age=0": 0, "max-age=soon": 0, "no-cache, max-age=60": 0, "no-store": 0, "private, max-age=60": 0, "max-age=60, s-maxage=0": 0,
	} {
		b, origin := timedBench(t)
		origin.answers("Cache-Control", control)
		_, first := b.get("https://shop.example/")
		if life == 0 {
			status, second := b.get("https://shop.example/")
			require.Equal(t, "MISS", status, control)
			require.NotEqual(t, first, second, control)
			continue
		}
		b.passes(life - time.Second)
		status, second := b.get("https://shop.example/")
		require.Equal(t, "HIT", status, control)
		require.Equal(t, first, second, control)
		b.passes(time.Second)
		status, second = b.get("https://shop.example/")
		require.Equal(t, "EXPIRED", status, control)
		require.NotEqual(t, first, second, control)
	}
}

// What the origin took from another cache has an age already, and says so.
func TestAge(t *testing.T) {
	b, origin := timedBench(t)
	origin.answers("Cache-Control", "max-age=60", "Age", "50")
	b.get("https://shop.example/")
	b.passes(9 * time.Second)
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://shop.example/", nil))
	require.Equal(t, "HIT", w.Header().Get("CF-Cache-Status"))
	require.Equal(t, []string{"59"}, w.Header().Values("Age"))
	b.passes(time.Second)
	status, _ := b.get("https://shop.example/")
	require.Equal(t, "EXPIRED", status)
}

func TestVariants(t *testing.T) {
	b, origin := timedBench(t)
	origin.answers("Cache-Control", "max-age=60", "Vary", "accept-language", "Cache-Tag", "t")
	const page = "https://shop.example/"
	for range 2 {
		_, de := b.get(page, "Accept-Language", "de")
		_, en := b.get(page, "Accept-Language", "en")
		require.Equal(t, []string{"de 1", "en 2"}, []string{de, en})
	}
	status, _ := b.get(page)
	require.Equal(t, "MISS", status, "no header is a variant, too")
	require.Equal(t, 3, b.edge.Objects())
	for _, purge := range []string{`{"files":["` + page + `"]}`, `{"tags":["T"]}`, `{"prefixes":["shop.example/"]}`} {
		b.get(page, "Accept-Language", "de")
		require.Equal(t, 200, b.purge(purge).status)
		require.Zero(t, b.edge.Objects(), "a purge takes every variant: %s", purge)
		require.False(t, b.edge.Stored(page))
	}
	origin.answers("Vary", "*")
	b.get(page)
	require.False(t, b.edge.Stored(page))
}

// In the window after its life a response is served while one request fetches the next.
func TestStaleWhileRevalidate(t *testing.T) {
	for control, stale := range map[string]bool{"max-age=60, stale-while-revalidate=30": true, "max-age=60, stale-while-revalidate=30, must-revalidate": false} {
		synctest.Test(t, func(t *testing.T) {
			b, origin := timedBench(t)
			origin.answers("Cache-Control", control)
			release := make(chan struct{})
			origin.before = func(n int) {
				if n == 2 && stale {
					<-release
				}
			}
			const page = "https://shop.example/"
			b.get(page)
			b.passes(70 * time.Second)
			if !stale {
				status, body := b.get(page)
				require.Equal(t, []string{"EXPIRED", " 2"}, []string{status, body})
				return
			}
			for range 3 {
				status, body := b.get(page)
				require.Equal(t, []string{"UPDATING", " 1"}, []string{status, body})
			}
			close(release)
			synctest.Wait()
			status, body := b.get(page)
			require.Equal(t, []string{"HIT", " 2"}, []string{status, body})
			b.passes(91 * time.Second)
			status, _ = b.get(page)
			require.Equal(t, "EXPIRED", status, "past the window the origin is waited for")
		})
	}
}

// Of concurrent requests for one response one goes to the origin; what may not be stored is
// fetched for each.
func TestCollapsing(t *testing.T) {
	for control, fetches := range map[string]int{"max-age=60": 1, "no-store": 10} {
		synctest.Test(t, func(t *testing.T) {
			b, origin := timedBench(t)
			origin.answers("Cache-Control", control)
			release := make(chan struct{})
			origin.before = func(int) { <-release }
			var visitors sync.WaitGroup
			for range 10 {
				visitors.Go(func() { b.get("https://shop.example/") })
			}
			synctest.Wait()
			require.Equal(t, 1, origin.served["/"])
			close(release)
			visitors.Wait()
			require.Equal(t, fetches, origin.served["/"])
		})
	}
}
