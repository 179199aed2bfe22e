package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// answers is a transport that a function is.
type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("page"))}
}

// rig is a lane that runs in a bubble of synctest.
type rig struct {
	*Lane
	t       *testing.T
	metrics *Metrics
	lsn     cdc.LSN
	stop    func()
}

func newRig(t *testing.T, transport http.RoundTripper, change func(*LaneConfig)) *rig {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Base = "http://edge.example"
	f, err := NewFetcher(cfg, "shop/warm")
	require.NoError(t, err)
	f.http = &http.Client{Transport: transport}
	metrics := NewMetrics(prometheus.NewRegistry())
	lc := LaneConfig{
		Name: "warm", Fetcher: f, Concurrency: cfg.Concurrency, RequestsPerSecond: cfg.RequestsPerSecond, MaxAge: cfg.MaxAge,
		Purged: func(context.Context, *invalidation.Batch) error { return nil },
		Races:  NewRaces(), Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&lc)
	}
	r := &rig{Lane: NewLane(lc), t: t, metrics: metrics}
	intake, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(intake, context.WithoutCancel(intake))
	}()
	r.stop = sync.OnceFunc(func() { stop(); <-done })
	t.Cleanup(r.stop)
	return r
}

func urlBatch(lsn cdc.LSN, urls ...string) *invalidation.Batch {
	now := time.Now()
	b := &invalidation.Batch{Sink: "warm", Origin: invalidation.FromWAL, Items: []invalidation.Item{{Rule: "r"}},
		Stamp: cdc.Stamp{Position: cdc.Position{SystemID: "1", Timeline: 1, LSN: lsn}, FirstCommit: now, LastCommit: now}}
	b.Items[0].Values[invalidation.URL] = urls
	return b
}

// change adds a batch of a change.
func (r *rig) change(urls ...string) {
	r.lsn++
	r.Add(urlBatch(r.lsn, urls...))
}

// became is how many pages had each result.
func (r *rig) became() map[string]int {
	out := map[string]int{}
	for _, result := range results {
		var m dto.Metric
		require.NoError(r.t, r.metrics.pages.WithLabelValues("warm", result).Write(&m))
		if n := int(m.GetCounter().GetValue()); n > 0 {
			out[result] = n
		}
	}
	return out
}

func TestPagesAreFetchedOncePurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetched []string
		purged := make(chan struct{})
		r := newRig(t, answers(func(req *http.Request) (*http.Response, error) {
			fetched = append(fetched, req.Host+req.URL.RequestURI())
			return response(http.StatusOK), nil
		}), func(c *LaneConfig) {
			c.Concurrency = 1
			c.Purged = func(ctx context.Context, b *invalidation.Batch) error {
				if b.Stamp.Position.LSN != 1 {
					return nil
				}
				select {
				case <-purged:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		r.change("https://shop.example/a", "/b")
		r.change("/c")
		r.change() // nothing for it
		synctest.Wait()
		require.Equal(t, []string{"edge.example/c"}, fetched, "what was purged first")
		waiting := make(chan error)
		go func() { waiting <- r.Wait(t.Context(), cdc.Position{SystemID: "1", Timeline: 1, LSN: 1}) }()
		synctest.Wait()
		require.Empty(t, waiting)
		require.Equal(t, 2, r.Status().Waiting)
		close(purged)
		require.NoError(t, <-waiting)
		require.Equal(t, []string{"edge.example/c", "shop.example/a", "edge.example/b"}, fetched)
		require.Equal(t, map[string]int{resultWarmed: 3}, r.became())
		require.NoError(t, r.Wait(t.Context(), cdc.Position{SystemID: "1", Timeline: 1, LSN: 100}))
	})
}

// What is no URL is not for it: a flush, tags, values that could not be built.
func TestOnlyURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) { panic("a request") }), nil)
		b := urlBatch(1)
		b.Flush, b.Reason = true, invalidation.FlushTruncate
		b.Items[0].Values[invalidation.Tag] = []string{"t"}
		b.Items[0].Unbuilt = []invalidation.Unbuilt{{Template: "x"}}
		r.Add(b)
		r.change("javascript:alert(1)", "https://user:pw@shop.example/")
		synctest.Wait()
		require.Equal(t, map[string]int{resultNotValid: 2}, r.became())
		require.Zero(t, r.Status().Waiting+r.Status().Running)
	})
}

func TestEqualPagesAreFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := map[string]int{}
		r := newRig(t, answers(func(req *http.Request) (*http.Response, error) {
			fetched[req.URL.Path]++
			time.Sleep(time.Second)
			return response(http.StatusOK), nil
		}), func(c *LaneConfig) { c.Concurrency = 1 })
		r.change("/a")
		synctest.Wait() // /a is on its way
		for range 100 {
			r.change("/a", "/b")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, map[string]int{"/a": 2, "/b": 1}, fetched, "/a once more, since it has changed")
	})
}

// An edge that does not purge, and one that does not answer, keep nothing for long and no more than there is room for.
func TestDeadEdge(t *testing.T) {
	for name, tc := range map[string]struct {
		purged func(ctx context.Context) error
		answer answers
	}{
		"purges nothing": {purged: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		"is down": {
			purged: func(context.Context) error { return nil },
			answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		},
		"takes connections and says nothing": {
			purged: func(context.Context) error { return nil },
			answer: func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int64
				var answer atomic.Pointer[answers]
				answer.Store(&tc.answer)
				r := newRig(t, answers(func(req *http.Request) (*http.Response, error) { requests.Add(1); return (*answer.Load())(req) }), func(c *LaneConfig) {
					c.Concurrency = 1
					c.Purged = func(ctx context.Context, _ *invalidation.Batch) error { return tc.purged(ctx) }
				})
				const batches, each = 50, 1000
				for i := range batches {
					var urls []string
					for n := range each {
						urls = append(urls, fmt.Sprintf("/%d/%d", i, n))
					}
					r.change(urls...)
					synctest.Wait()
					require.LessOrEqual(t, r.Status().Waiting, maxWaiting)
				}
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				if tc.answer != nil {
					require.Equal(t, "failing", r.Status().State)
					require.NotEmpty(t, r.Status().Err)
					require.Less(t, requests.Load(), int64(100), "it pauses")
				}
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				require.Zero(t, r.Status().Waiting+r.Status().Running)
				got := r.became()
				require.Equal(t, batches*each, got[resultNoRoom]+got[resultTooOld]+got[resultFailed])
				require.GreaterOrEqual(t, got[resultNoRoom], batches*each-maxWaiting-100)
				// It recovers by itself.
				if tc.answer != nil {
					good := answers(func(*http.Request) (*http.Response, error) { return response(http.StatusOK), nil })
					answer.Store(&good)
					r.change("/x")
					time.Sleep(time.Minute)
					synctest.Wait()
					require.Equal(t, 1, r.became()[resultWarmed])
					require.Equal(t, "ok", r.Status().State)
				}
			})
		})
	}
}

// What comes from a backlog of the database is too old from the start.
func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) { return response(http.StatusOK), nil }), nil)
		b := urlBatch(1, "/a", "/b")
		b.Stamp.LastCommit = time.Now().Add(-time.Hour)
		r.Add(b)
		time.Sleep(2 * time.Second)
		require.Equal(t, map[string]int{resultTooOld: 2}, r.became())
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) { return response(http.StatusOK), nil }), nil)
		r.Pause()
		r.change("/a")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, "paused", r.Status().State)
		require.Equal(t, 1, r.Status().Waiting)
		r.Resume()
		synctest.Wait()
		require.Equal(t, map[string]int{resultWarmed: 1}, r.became())
		require.Equal(t, "ok", r.Status().State)
	})
}

func TestShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) { panic("a request") }), func(c *LaneConfig) { c.Shadow = true })
		r.change("/a")
		synctest.Wait()
		require.Equal(t, map[string]int{resultShadow: 1}, r.became())
	})
}

// An edge or origin that asks for a pause has it, and a page that it refuses is no reason for one.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		r := newRig(t, answers(func(req *http.Request) (*http.Response, error) {
			at = append(at, time.Since(began))
			switch req.URL.Path {
			case "/busy":
				busy := response(http.StatusTooManyRequests)
				busy.Header.Set("Retry-After", "20")
				return busy, nil
			case "/private":
				return response(http.StatusForbidden), nil
			}
			return response(http.StatusOK), nil
		}), func(c *LaneConfig) { c.Concurrency = 1 })
		r.change("/private", "/private?1", "/private?2", "/private?3", "/private?4", "/busy", "/a")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, at, 7)
		require.Less(t, at[5], time.Second)
		require.GreaterOrEqual(t, at[6], 20*time.Second)
		require.Equal(t, map[string]int{resultFailed: 6, resultWarmed: 1}, r.became())
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) { requests++; return response(http.StatusOK), nil }), func(c *LaneConfig) {
			c.Concurrency, c.RequestsPerSecond = 1, 10
		})
		var urls []string
		for n := range 100 {
			urls = append(urls, fmt.Sprintf("/%d", n))
		}
		r.change(urls...)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.InDelta(t, 51, requests, 1)
	})
}

// A stop waits for what is in flight only.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			return response(http.StatusOK), nil
		}), func(c *LaneConfig) { c.Concurrency = 2 })
		r.change("/a", "/b", "/c", "/d")
		synctest.Wait()
		began := time.Now()
		r.stop()
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Equal(t, map[string]int{resultWarmed: 2}, r.became())
	})
}

// edge is a cache as Varnish is one: a purge removes what is stored, and what is being fetched is stored afterwards;
// requests of a page that is being fetched wait for that; and a fetch goes on when the client has gone away.
type edge struct {
	mu sync.Mutex
	// version is what the origin has, stored what the edge has.
	version, stored map[string]int
	fetching        map[string]chan struct{}
	takes           func() time.Duration
}

func (e *edge) RoundTrip(r *http.Request) (*http.Response, error) {
	page := r.URL.Path
	e.mu.Lock()
	if _, hit := e.stored[page]; hit {
		e.mu.Unlock()
		return response(http.StatusOK), nil
	}
	done := e.fetching[page]
	if done == nil {
		done = make(chan struct{})
		e.fetching[page] = done
		takes := e.takes()
		go func() {
			time.Sleep(takes / 2)
			e.mu.Lock()
			read := e.version[page]
			e.mu.Unlock()
			time.Sleep(takes / 2)
			e.mu.Lock()
			defer e.mu.Unlock()
			e.stored[page] = read
			delete(e.fetching, page)
			close(done)
		}()
	}
	e.mu.Unlock()
	select {
	case <-done:
		return response(http.StatusOK), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Purge implements sinks.Sink.
func (e *edge) Purge(_ context.Context, batch []invalidation.Invalidation) error {
	time.Sleep(time.Millisecond)
	defer time.Sleep(time.Millisecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, inv := range batch {
		if inv.Kind == invalidation.Tag {
			delete(e.stored, inv.Value)
			continue
		}
		delete(e.stored, strings.TrimPrefix(inv.Value, "http://edge.example"))
	}
	return nil
}

// A page that is fetched while it changes does not stay old, however the change is purged and however long the origin takes.
func TestNoOldPageStays(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				slow := []time.Duration{10 * time.Millisecond, time.Second, 40 * time.Second}[seed%3]
				second := []time.Duration{0, 2 * time.Second}[seed/3%2]
				byTag := seed/6%2 == 1
				e := &edge{version: map[string]int{}, stored: map[string]int{}, fetching: map[string]chan struct{}{}, takes: func() time.Duration { return rand.N(slow) }}
				races := NewRaces()
				sink := races.Watch("edge", e)
				purging := make(chan struct{}, 1) // the lane calls its sink one call after the other
				purge := func(inv invalidation.Invalidation) {
					purging <- struct{}{}
					defer func() { <-purging }()
					_ = sink.Purge(context.Background(), []invalidation.Invalidation{inv})
				}
				twice := func(inv invalidation.Invalidation) {
					purge(inv)
					if second > 0 {
						time.Sleep(second)
						purge(inv)
					}
				}
				var mu sync.Mutex
				purged := map[cdc.LSN]chan struct{}{}
				r := newRig(t, e, func(c *LaneConfig) {
					c.Races = races
					c.Edges = []Edge{{Name: "edge", SecondPurge: second, Purge: func(_ context.Context, url string) error {
						go twice(invalidation.Invalidation{Kind: invalidation.URL, Value: url})
						return nil
					}}}
					c.Purged = func(ctx context.Context, b *invalidation.Batch) error {
						mu.Lock()
						done := purged[b.Stamp.Position.LSN]
						mu.Unlock()
						select {
						case <-done:
							return nil
						case <-ctx.Done():
							return ctx.Err()
						}
					}
				})
				for range 60 {
					page := fmt.Sprintf("/%d", rnd.IntN(3))
					e.mu.Lock()
					e.version[page]++
					e.mu.Unlock()
					done := make(chan struct{})
					mu.Lock()
					purged[r.lsn+1] = done
					mu.Unlock()
					inv := invalidation.Invalidation{Kind: invalidation.URL, Value: "http://edge.example" + page}
					if byTag && rnd.IntN(2) == 0 {
						inv = invalidation.Invalidation{Kind: invalidation.Tag, Value: page}
					}
					go func() { twice(inv); close(done) }()
					if inv.Kind == invalidation.URL {
						r.change("http://edge.example" + page)
					} else {
						r.lsn++ // the warm sink does not hear of it
					}
					time.Sleep(time.Duration(rnd.Int64N(int64(2 * slow))))
				}
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				e.mu.Lock()
				defer e.mu.Unlock()
				for page, stored := range e.stored {
					require.Equal(t, e.version[page], stored, "page %s", page)
				}
				require.Zero(t, r.Status().Running)
				if slow <= time.Second {
					require.NotEmpty(t, e.stored, "pages are warm")
				}
			})
		})
	}
}

// Where the edge takes no URLs, an old page cannot be purged once more, and that is counted.
func TestEdgeWithoutURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		races := NewRaces()
		r := newRig(t, answers(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(http.StatusOK), nil
		}), func(c *LaneConfig) { c.Races, c.Edges = races, []Edge{{Name: "edge"}} })
		r.change("/a")
		synctest.Wait()
		e := &edge{stored: map[string]int{}}
		require.NoError(t, races.Watch("edge", e).Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything}}))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, map[string]int{resultRaced: 1}, r.became())
	})
}

// With hot, pages that the edge did not have when it purged them are left out, and counted.
func TestOnlyHotPagesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hot := NewHot()
		var asked sync.Map
		r := newRig(t, answers(func(r *http.Request) (*http.Response, error) {
			asked.Store(r.URL.Path, true)
			return response(200), nil
		}), func(c *LaneConfig) {
			c.Hot = func(url string, arrived time.Time) bool { return hot.Since("edge", url, arrived) }
			c.Purged = func(context.Context, *invalidation.Batch) error {
				hot.Had("edge", "https://shop.example/had?x=1")
				hot.Had("other", "https://shop.example/elsewhere")
				return nil
			}
		})
		hot.Had("edge", "https://shop.example/before")
		time.Sleep(time.Minute)
		r.change("https://shop.example/had?x=1", "https://shop.example/had", "https://shop.example/elsewhere", "https://shop.example/before")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, r.became()[resultWarmed])
		require.Equal(t, 3, r.became()[resultNotHot])
		_, was := asked.Load("/had")
		require.True(t, was)
		require.NoError(t, r.Wait(t.Context(), cdc.Position{SystemID: "1", Timeline: 1, LSN: r.lsn}))
		r.stop()
	})
}

func TestHotForgetsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hot := NewHot()
		url := func(n int) string { return fmt.Sprintf("https://shop.example/%d", n) }
		for n := range maxHot + 1 {
			hot.Had("edge", url(n))
		}
		require.False(t, hot.Since("edge", url(0), time.Now()))
		require.True(t, hot.Since("edge", url(1), time.Now()))
		require.Len(t, hot.pages, maxHot)
		require.Equal(t, maxHot, hot.order.Len())
	})
}
