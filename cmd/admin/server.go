package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cmd/plural"
)

// Config is what the listener shows.
type Config struct {
	// Status returns a value to be written as JSON.
	Status func(ctx context.Context) any
	// Healthy, Ready and Streaming return why not, or nil. Healthy fails only if a
	// restart would help.
	Healthy   func() error
	Ready     func() error
	Streaming func() error
	// Reload returns why the old configuration goes on, or nil.
	Reload func(ctx context.Context) error
	// Wait blocks until the sink ("" for all) has purged up to lsn, or returns
	// the context's error or a *BlockedError in its place, a *NotFoundError, a *ProblemError, a
	// *ParkedError, or a *ParkedUnknownError.
	// After other errors than the middle three it is called again while the request lasts.
	Wait func(ctx context.Context, lsn cdc.LSN, sink string) error
	Hand Hand
	// Silent names the first of these servers that gives no sign of life, as an error, or returns nil. It takes seconds at most.
	Silent func(ctx context.Context, needs Servers) error
	// Explain says what the rules make of a change, as JSON, or returns a
	// *BadRequestError.
	Explain  func(ctx context.Context, change []byte) (any, error)
	Registry prometheus.Gatherer
	// TokenFile holds the token for calls that change something; it is read
	// again for each. Empty allows them from loopback only.
	TokenFile string
	Logger    *slog.Logger
}

// NotFoundError says that a request names something that does not exist.
type NotFoundError struct{ What string }

// Error says what.
func (e *NotFoundError) Error() string { return "there is no " + e.What }

// ProblemError says that changes of some tables are not seen or not read, so that what
// sinks have purged says nothing about them.
type ProblemError struct {
	Sinks []string
	Text  string
}

// Error says what must be corrected.
func (e *ProblemError) Error() string {
	return "changes may not be purged at " + strings.Join(e.Sinks, ", ") + ": " + e.Text
}

// ParkedError says that a sink has passed a position, but refused some of what
// lies below it.
type ParkedError struct {
	Sink  string
	Count int
}

// Error says how many, and where to look.
func (e *ParkedError) Error() string {
	verb := "are"
	if e.Count == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%s below %s parked at sink %s; see walpurge parked list", plural.Count(e.Count, "message"), verb, e.Sink)
}

// ParkedUnknownError says that the sinks have passed a position, and that the server of
// the stream does not tell whether they refused anything before it.
type ParkedUnknownError struct{ Err error }

// Error says why.
func (e *ParkedUnknownError) Error() string {
	return "whether anything is parked below cannot be read: " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *ParkedUnknownError) Unwrap() error { return e.Err }

// Server answers requests about one pipeline.
type Server struct {
	cfg      Config
	handler  http.Handler
	watchers *watchers
	// next is the server that answers in the place of this one once replaced is closed.
	next     *Server
	replaced chan struct{}
	// tails has a seat for each client of tail.
	tails chan struct{}
	// explaining is full while as many changes are explained as may be at once.
	explaining chan struct{}
	// acting has a seat for each call that is carried out. patience and slow are silentAfter and slowAfter.
	acting         chan struct{}
	patience, slow time.Duration
}

// maxExplaining is how many changes are explained at once.
const maxExplaining = 2

// New returns a server that answers once it stands behind a Front.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, watchers: newWatchers(cfg.Status), replaced: make(chan struct{}), tails: make(chan struct{}, maxTails), explaining: make(chan struct{}, maxExplaining),
		acting: make(chan struct{}, maxActing), patience: silentAfter, slow: slowAfter}
	s.handler = s.routes()
	return s
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthy", s.probe(s.cfg.Healthy))
	mux.HandleFunc("GET /-/ready", s.probe(s.cfg.Ready))
	mux.HandleFunc("GET /-/streaming", s.probe(s.cfg.Streaming))
	mux.Handle("POST /-/reload", s.guard(s.reload))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, s.cfg.Status(r.Context()))
	})
	mux.HandleFunc("GET /api/v1/wait", s.wait)
	mux.HandleFunc("GET /api/v1/events", sameSite(s.events))
	mux.Handle("POST /api/v1/explain", s.guard(s.explain))
	s.handRoutes(mux)
	s.pageRoutes(mux)
	return s.checkHost(mux)
}

func (s *Server) probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(display.Writer(w), err)
			return
		}
		fmt.Fprintln(w, "OK")
	}
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	var silent *SilentError
	reload := within(s, s.slow, Servers{Stream: true, Database: true}, func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, s.cfg.Reload(ctx) })
	switch _, err := reload(r.Context(), struct{}{}); {
	case errors.As(err, &silent), errors.Is(err, errActing):
		failWith(w, err)
	case err != nil:
		fail(w, http.StatusUnprocessableEntity, err)
	default:
		reply(w, http.StatusOK, map[string]bool{"reloaded": true})
	}
}

// waitRetry is the pause after a wait that failed before its time was up, for example because the
// database closed the connection over which tables are compared, or the leader of the stream ended.
const waitRetry = 200 * time.Millisecond

// BlockedError says which sink had not purged up to a position when the time was up, and why.
type BlockedError struct{ Sink, Why string }

// Error says where and why.
func (e *BlockedError) Error() string { return "sink " + e.Sink + ": " + e.Why }

// StandbyError says that another process leads the pipeline, so that this one cannot answer.
type StandbyError struct {
	// Leader is that process as far as it is known.
	Leader cdc.Leader
	// Why is how this process knows that another one leads.
	Why string
}

// Error names the leader, or says how to find it.
func (e *StandbyError) Error() string {
	text := "this process stands by: "
	switch l := e.Leader; {
	case l.Address != "":
		return text + l.String() + " leads; call that one, with --addr " + l.Address
	case l.Host != "":
		return text + "a process on host " + l.Host + " leads; call that one"
	}
	return text + e.Why + "; call the process that has the slot"
}

// wait answers 200 when the purge has passed, 409 when a problem or parked items leave
// something unpurged below, 504 when the time is up before that is known. If another server
// replaces this one meanwhile, that one answers within the same time.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	lsn, err := cdc.ParseLSN(q.Get("lsn"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	timeout := 5 * time.Second
	if t := q.Get("timeout"); t != "" {
		if timeout, err = time.ParseDuration(t); err != nil || timeout <= 0 || timeout > 5*time.Minute {
			fail(w, http.StatusBadRequest, fmt.Errorf("timeout %q: write a time up to 5m, such as 5s", t))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	here, leave := context.WithCancel(ctx)
	defer leave()
	go func() {
		select {
		case <-s.replaced:
			leave()
		case <-here.Done():
		}
	}()
	var missing *NotFoundError
	var parked *ParkedError
	var problem *ProblemError
	var unknown *ParkedUnknownError
	var standby *StandbyError
	var blocked *BlockedError
	for {
		err := s.cfg.Wait(here, lsn, q.Get("sink"))
		switch {
		case err == nil:
			reply(w, http.StatusOK, map[string]any{"purged": true, "lsn": lsn})
			return
		case errors.As(err, &missing):
			fail(w, http.StatusNotFound, err)
			return
		case errors.As(err, &parked), errors.As(err, &problem):
			fail(w, http.StatusConflict, err)
			return
		}
		// Once set it stays: a later call that the deadline cuts short takes back nothing.
		_ = errors.As(err, &unknown)
		select {
		case <-ctx.Done():
			if errors.As(err, &standby) {
				fail(w, http.StatusGatewayTimeout, fmt.Errorf("what is purged up to %s is not known here: %w", lsn, err))
			} else if unknown != nil {
				fail(w, http.StatusGatewayTimeout, fmt.Errorf("purged up to %s, but %w", lsn, unknown))
			} else if errors.As(err, &blocked) {
				fail(w, http.StatusGatewayTimeout, fmt.Errorf("not purged up to %s within %s; %w", lsn, timeout, err))
			} else {
				fail(w, http.StatusGatewayTimeout, fmt.Errorf("not purged up to %s within %s", lsn, timeout))
			}
			return
		case <-s.replaced:
			s.next.wait(w, r.WithContext(ctx))
			return
		case <-time.After(waitRetry):
		}
	}
}

// reply writes JSON. Names and errors in it come from files, databases and servers, and may be printed to a terminal, so characters
// that a terminal takes for commands are escaped, which changes no value.
func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	enc := json.NewEncoder(display.Writer(w))
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}

// fail answers with an error, and with who leads where that is the reason.
func fail(w http.ResponseWriter, code int, err error) {
	answer := struct {
		Error  string      `json:"error"`
		Leader *cdc.Leader `json:"leader,omitempty"`
	}{Error: err.Error()}
	var standby *StandbyError
	if errors.As(err, &standby) && standby.Leader != (cdc.Leader{}) {
		answer.Leader = &standby.Leader
	}
	reply(w, code, answer)
}
