package load

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type recorder struct {
	mu  sync.Mutex
	all []Result
}

func (r *recorder) observe(x Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

// The first answer comes only when all requests have arrived: a generator that waits for answers
// would never send them. Its wait counts from when it was due.
func TestOpenDoesNotWaitForAnswers(t *testing.T) {
	const requests = 50
	var arrived atomic.Int64
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if arrived.Add(1) == requests {
			close(all)
		}
		<-all
		w.Header().Set("Shown", string(body)+r.Header.Get("X"))
	}))
	defer server.Close()
	var rec recorder
	g := Generator{
		Next: func(r *rand.Rand) Request {
			return Request{Endpoint: "a", Method: http.MethodPost, URL: server.URL, Body: []byte("b"), Header: http.Header{"X": {"c"}}}
		},
		Timeout: time.Minute, Observe: rec.observe,
	}
	require.NoError(t, g.Open(t.Context(), 500, 100*time.Millisecond))
	require.Len(t, rec.all, requests)
	var longest time.Duration
	for _, r := range rec.all {
		require.NoError(t, r.Err)
		require.Equal(t, http.StatusOK, r.Status)
		require.Equal(t, "bc", r.Header.Get("Shown"))
		require.False(t, r.Sent.Before(r.Due))
		longest = max(longest, r.Latency())
	}
	require.GreaterOrEqual(t, longest, 98*time.Millisecond, "the first request waited for the last")
}

// A generator that is held up says which requests it sent late, and their latency counts from when
// they were due.
func TestLate(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	var rec recorder
	calls := 0
	g := Generator{
		Next: func(*rand.Rand) Request {
			if calls++; calls == 5 {
				time.Sleep(10 * Grace)
			}
			return Request{Method: http.MethodGet, URL: server.URL}
		},
		Observe: rec.observe,
	}
	require.NoError(t, g.Open(t.Context(), 1000, 20*time.Millisecond))
	require.Len(t, rec.all, 20)
	late := 0
	for _, r := range rec.all {
		if r.Late() {
			late++
			require.Greater(t, r.Latency(), Grace)
		}
	}
	require.GreaterOrEqual(t, late, 16)
}

func TestFailures(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer server.Close()
	for _, url := range []string{server.URL, server.URL + "/hang", "http://127.0.0.1:1/", ":"} {
		var rec recorder
		g := Generator{Next: func(*rand.Rand) Request { return Request{Method: http.MethodGet, URL: url} }, Timeout: 100 * time.Millisecond, Observe: rec.observe}
		require.NoError(t, g.Open(t.Context(), 1000, time.Millisecond))
		require.Len(t, rec.all, 1)
		require.True(t, rec.all[0].Failed(), url)
	}
	require.ErrorContains(t, Generator{}.Open(t.Context(), 0, time.Second), "above 0")
}

func TestEndsWithTheContext(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	g := Generator{Next: func(*rand.Rand) Request { cancel(); return Request{Method: http.MethodGet, URL: server.URL} }, Observe: func(Result) {}}
	require.ErrorIs(t, g.Open(ctx, 1, time.Hour), context.Canceled)
	_, err := g.Closed(ctx, 2, time.Hour)
	require.ErrorIs(t, err, context.Canceled)
}

// Closed counts what was answered, by as many workers as it is told.
func TestClosed(t *testing.T) {
	const workers = 4
	var now, most atomic.Int64
	full := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := now.Add(1); n == workers && most.Swap(n) < n {
			close(full)
		}
		<-full
		now.Add(-1)
	}))
	defer server.Close()
	g := Generator{Next: func(*rand.Rand) Request { return Request{Method: http.MethodGet, URL: server.URL} }, Timeout: time.Minute, Observe: func(Result) {}}
	rate, err := g.Closed(t.Context(), workers, 50*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, rate)
	require.LessOrEqual(t, most.Load(), int64(workers))
}
