package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// hung is a pipeline whose calls do not return before release is closed, whatever their contexts say.
type hung struct {
	hand
	entered, release chan struct{}
	err              error
}

func (h *hung) hang() error {
	h.entered <- struct{}{}
	<-h.release
	return h.err
}

func (h *hung) Purge(context.Context, PurgeRequest) (PurgeReport, error) {
	return PurgeReport{}, h.hang()
}

func (h *hung) Replay(context.Context, ReplayRequest) (ReplayReport, error) {
	return ReplayReport{}, h.hang()
}
func (h *hung) Pause(context.Context, string, bool, time.Time) error { return h.hang() }
func (h *hung) Parked(context.Context, string, int) ([]Parked, error) {
	return nil, h.hang()
}
func (h *hung) Unpark(context.Context, UnparkRequest) (int, error)    { return 0, h.hang() }
func (h *hung) Skip(context.Context, SkipRequest) (SkipReport, error) { return SkipReport{}, h.hang() }

// calls are all that wait for servers, with a body that they take.
var calls = map[string]string{
	"POST /api/v1/purge": `{"sink":"cache","keys":["a"]}`, "POST /api/v1/replay": `{"sink":"cache"}`, "POST /api/v1/pause": `{"sink":"cache"}`,
	"POST /api/v1/resume": `{"sink":"cache"}`, "POST /api/v1/parked": `{"action":"retry","all":true}`, "GET /api/v1/parked": "",
	"POST /api/v1/skip": `{"to":"current","pipeline":"shop"}`, "POST /-/reload": "{}",
}

func newHung(silent func(Servers) error) (*hung, *Server) {
	h := &hung{entered: make(chan struct{}, 100), release: make(chan struct{})}
	s := New(Config{
		Registry: prometheus.NewRegistry(), Hand: h, Reload: func(context.Context) error { return h.hang() },
		Silent: func(_ context.Context, needs Servers) error { return silent(needs) },
	})
	s.patience, s.slow = time.Millisecond, time.Millisecond
	s.handler = s.routes() // which take the patience as it is
	return h, s
}

func call(t *testing.T, s *Server, ctx context.Context, name string) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(name, " ")
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(calls[name]))
	r.Host, r.RemoteAddr = "127.0.0.1:7468", "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// TestEveryCallThatChangesSomethingIsBounded: a new route belongs in the list of calls, or has a bound of its own.
func TestEveryCallThatChangesSomethingIsBounded(t *testing.T) {
	for name := range calls {
		t.Run(name, func(t *testing.T) {
			h, s := newHung(func(needs Servers) error {
				require.True(t, needs.Stream)
				require.Equal(t, strings.Contains(name, "skip") || strings.Contains(name, "reload"), needs.Database)
				return errors.New("the NATS server at nats://n:4222 does not answer")
			})
			w := call(t, s, t.Context(), name)
			require.Equal(t, http.StatusGatewayTimeout, w.Code, w.Body)
			require.Contains(t, w.Body.String(), "the NATS server at nats://n:4222 does not answer; whether the call took effect is not known")
			close(h.release)
		})
	}
}

// TestALongCallGoesOn while the servers answer.
func TestALongCallGoesOn(t *testing.T) {
	asked := make(chan struct{}, 1000)
	h, s := newHung(func(Servers) error { asked <- struct{}{}; return nil })
	go func() {
		for range 3 {
			<-asked
		}
		close(h.release)
	}()
	require.Equal(t, http.StatusOK, call(t, s, t.Context(), "POST /api/v1/replay").Code)
}

// TestACallEndsWithItsClient, and the seats of calls that still wait are bounded.
func TestACallEndsWithItsClient(t *testing.T) {
	h, s := newHung(func(Servers) error { return nil })
	for range maxActing {
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-h.entered; leave() }()
		call(t, s, ctx, "POST /api/v1/purge")
	}
	w := call(t, s, t.Context(), "POST /api/v1/purge")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "32 calls are being carried out already")
	close(h.release)
	require.Eventually(t, func() bool { return len(s.acting) == 0 }, 30*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, call(t, s, t.Context(), "POST /api/v1/purge").Code)
}

// TestACallThatTimesOutNamesTheServer, and an error with another reason stays what it is.
func TestACallThatTimesOutNamesTheServer(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{fmt.Errorf("store a manual purge: %w", context.DeadlineExceeded), http.StatusGatewayTimeout, "PostgreSQL does not answer (store a manual purge: context deadline exceeded)"},
		{&NotFoundError{What: "sink x"}, http.StatusNotFound, "there is no sink x"},
		{&StandbyError{Leader: cdc.Leader{Host: "h"}}, http.StatusServiceUnavailable, "this process stands by"},
	} {
		h, s := newHung(func(Servers) error { return errors.New("PostgreSQL does not answer") })
		s.patience, h.err = time.Hour, c.err
		s.handler = s.routes()
		close(h.release)
		w := call(t, s, t.Context(), "POST /api/v1/purge")
		require.Equal(t, c.code, w.Code, w.Body)
		require.Contains(t, w.Body.String(), c.text)
	}
}

// TestACallThatPanicsEndsItsConnectionOnly.
func TestACallThatPanicsEndsItsConnectionOnly(t *testing.T) {
	_, s := newHung(func(Servers) error { return nil })
	s.cfg.Reload = func(context.Context) error { panic("hunter2") }
	s.handler = s.routes()
	require.PanicsWithValue(t, "hunter2", func() { call(t, s, t.Context(), "POST /-/reload") })
	require.Empty(t, s.acting)
}
