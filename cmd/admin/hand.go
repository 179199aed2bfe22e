package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Hand is what an operator can do to a running pipeline. Its methods return a
// *NotFoundError or *BadRequestError where the request is at fault.
type Hand interface {
	// Purge puts invalidations ahead of a sink's queue and returns once that is
	// durable, or only estimates.
	Purge(ctx context.Context, r PurgeRequest) (PurgeReport, error)
	// Replay purges again what the stream still holds.
	Replay(ctx context.Context, r ReplayRequest) (ReplayReport, error)
	// Pause holds a lane, until then or with a zero time until it is resumed; or lets it go on.
	Pause(ctx context.Context, sink string, paused bool, until time.Time) error
	// Parked lists what sinks refused, at most limit messages; sink may be empty.
	Parked(ctx context.Context, sink string, limit int) ([]Parked, error)
	// Unpark retries or drops parked messages and returns how many.
	Unpark(ctx context.Context, r UnparkRequest) (int, error)
	// Skip declares a gap: what was not read is given up, and every sink
	// flushed. It returns once the database may forget what was skipped.
	Skip(ctx context.Context, r SkipRequest) (SkipReport, error)
	// Tail calls each with every batch purged from now on, as JSON, until the
	// context ends or each fails. sink may be empty.
	Tail(ctx context.Context, sink string, each func(payload []byte) error) error
}

// BadRequestError says what is wrong with a request.
type BadRequestError struct{ Err error }

// Error returns the wrapped error's text.
func (e *BadRequestError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *BadRequestError) Unwrap() error { return e.Err }

// PurgeRequest asks for a manual purge. Its JSON has a member for each kind that operators can name.
type PurgeRequest struct {
	Sink   string
	Values invalidation.Values
	// All carries out the sink's flush plan.
	All bool
	// Supersede drops what waits in the lane: the caller vouches that the purge
	// covers it.
	Supersede bool
	DryRun    bool
}

// purgeLayout is how a PurgeRequest holds its values.
var purgeLayout = invalidation.NewLayout(invalidation.Kinds(invalidation.InRules()...), 0)

// MarshalJSON writes the request.
func (r PurgeRequest) MarshalJSON() ([]byte, error) {
	sink, err := json.Marshal(r.Sink)
	out := purgeLayout.Append(append([]byte(`{"sink":`), sink...), &r.Values)
	for _, flag := range []struct {
		member string
		set    bool
	}{{"all", r.All}, {"supersede", r.Supersede}, {"dry_run", r.DryRun}} {
		if flag.set {
			out = append(out, `,"`+flag.member+`":true`...)
		}
	}
	return append(out, '}'), err
}

// UnmarshalJSON reads a request. A member that it does not know is an error.
func (r *PurgeRequest) UnmarshalJSON(data []byte) error {
	return purgeLayout.Read(data, &r.Values, func(member string, value json.RawMessage) error {
		switch strings.ToLower(member) {
		case "sink":
			return json.Unmarshal(value, &r.Sink)
		case "all":
			return json.Unmarshal(value, &r.All)
		case "supersede":
			return json.Unmarshal(value, &r.Supersede)
		case "dry_run":
			return json.Unmarshal(value, &r.DryRun)
		}
		return fmt.Errorf("json: unknown field %q", member)
	})
}

// PurgeReport says what a purge does.
type PurgeReport struct {
	Pipeline string `json:"pipeline"`
	// Kind and Where name the cache: servers, zone, service.
	Kind  string `json:"kind"`
	Where string `json:"where"`
	// Everything: nothing in that cache is left.
	Everything bool `json:"everything"`
	// Plan is the flush plan that All carries out.
	Plan     []PlanStep `json:"plan,omitempty"`
	Items    int        `json:"items"`
	Requests int        `json:"requests"`
	// Seconds is how long budgets and walks over keys hold it back from now on, beside the
	// time that the requests take. SecondsUnknown says why that is not known.
	Seconds        float64 `json:"seconds"`
	SecondsUnknown string  `json:"seconds_unknown,omitempty"`
	// Waiting is what Supersede drops. Only a dry run of a purge of all, or of one that
	// supersedes, counts it.
	Waiting *PurgeWaiting `json:"waiting,omitempty"`
	// Shadow: the sink is in shadow mode, and nothing is purged.
	Shadow bool `json:"shadow,omitempty"`
	DryRun bool `json:"dry_run"`
}

// PlanStep is one invalidation of a flush plan.
type PlanStep struct {
	Kind  string `json:"kind"`
	Value string `json:"value,omitempty"`
}

// PurgeWaiting counts what waits in a lane.
type PurgeWaiting struct {
	Items    int `json:"items"`
	Messages int `json:"messages"`
	// More: there is more than was counted.
	More bool `json:"more,omitempty"`
}

// ReplayRequest asks for what was published since a time or after an LSN.
type ReplayRequest struct {
	Sink  string    `json:"sink,omitempty"`
	Since time.Time `json:"since,omitzero"`
	From  string    `json:"from,omitempty"`
}

// ReplayReport says what is purged again.
type ReplayReport struct {
	Messages int `json:"messages"`
	Items    int `json:"items"`
}

// Parked is a parked message.
type Parked struct {
	ID       uint64    `json:"id"`
	Sink     string    `json:"sink"`
	ParkedAt time.Time `json:"parked_at"`
	LSN      string    `json:"lsn"`
	Error    string    `json:"error"`
	Items    []Value   `json:"items"`
}

// Value is one invalidation; or, where Template is set, a template whose values could not be built
// for Count changes.
type Value struct {
	Rule     string `json:"rule"`
	Kind     string `json:"kind,omitempty"`
	Value    string `json:"value,omitempty"`
	Template string `json:"template,omitempty"`
	Count    int    `json:"count,omitempty"`
}

// UnparkRequest names parked messages: by id, or all of a sink, or all.
type UnparkRequest struct {
	// Action is retry or drop.
	Action string   `json:"action"`
	IDs    []uint64 `json:"ids,omitempty"`
	Sink   string   `json:"sink,omitempty"`
	All    bool     `json:"all,omitempty"`
}

// SkipRequest asks to give up what was not read yet.
type SkipRequest struct {
	// To is current: the end of the log.
	To string `json:"to"`
	// Pipeline is the pipeline's name, as proof that it is meant.
	Pipeline string `json:"pipeline"`
}

// SkipReport says what was skipped.
type SkipReport struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// parkedLimit bounds a list of parked messages.
const parkedLimit = 1000

func (s *Server) handRoutes(mux *http.ServeMux) {
	h, stored := s.cfg.Hand, Servers{Stream: true}
	mux.Handle("POST /api/v1/purge", s.guard(act(within(s, s.patience, stored, h.Purge))))
	mux.Handle("POST /api/v1/replay", s.guard(act(within(s, s.patience, stored, h.Replay))))
	mux.Handle("POST /api/v1/skip", s.guard(act(within(s, s.slow, Servers{Stream: true, Database: true}, h.Skip))))
	for path, paused := range map[string]bool{"/api/v1/pause": true, "/api/v1/resume": false} {
		mux.Handle("POST "+path, s.guard(act(within(s, s.patience, stored, func(ctx context.Context, r struct {
			Sink string `json:"sink"`
			For  string `json:"for"`
		}) (map[string]any, error) {
			var until time.Time
			if r.For != "" {
				d, err := time.ParseDuration(r.For)
				if err != nil || d <= 0 || !paused {
					return nil, &BadRequestError{Err: fmt.Errorf("for %q: write how long to pause, such as 30m", r.For)}
				}
				until = time.Now().Add(d)
			}
			return map[string]any{"sink": r.Sink, "paused": paused}, h.Pause(ctx, r.Sink, paused, until)
		}))))
	}
	mux.Handle("POST /api/v1/parked", s.guard(act(within(s, s.patience, stored, func(ctx context.Context, r UnparkRequest) (map[string]int, error) {
		n, err := h.Unpark(ctx, r)
		return map[string]int{"done": n}, err
	}))))
	parked := within(s, s.patience, stored, func(ctx context.Context, sink string) ([]Parked, error) { return h.Parked(ctx, sink, parkedLimit) })
	mux.HandleFunc("GET /api/v1/parked", func(w http.ResponseWriter, r *http.Request) {
		list, err := parked(r.Context(), r.URL.Query().Get("sink"))
		if err != nil {
			failWith(w, err)
			return
		}
		if list == nil {
			list = []Parked{}
		}
		reply(w, http.StatusOK, list)
	})
	mux.HandleFunc("GET /api/v1/tail", sameSite(s.tail))
}

// act reads a request strictly, carries it out and writes the answer.
func act[In, Out any](do func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("the body is not the JSON of this call: %w", err))
			return
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			fail(w, http.StatusBadRequest, errors.New("the body goes on behind its JSON"))
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			failWith(w, err)
			return
		}
		reply(w, http.StatusOK, out)
	}
}

// failWith answers with the status that the error asks for.
func failWith(w http.ResponseWriter, err error) {
	var missing *NotFoundError
	var bad *BadRequestError
	var silent *SilentError
	switch {
	case errors.As(err, &silent):
		fail(w, http.StatusGatewayTimeout, err)
	case errors.As(err, &missing):
		fail(w, http.StatusNotFound, err)
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, err)
	default:
		fail(w, http.StatusServiceUnavailable, err)
	}
}

// maxTails bounds how many may follow the purges at a time.
const maxTails = 16

// tail streams one JSON document a line. A client that does not read loses its connection.
func (s *Server) tail(w http.ResponseWriter, r *http.Request) {
	select {
	case s.tails <- struct{}{}:
		defer func() { <-s.tails }()
	default:
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d clients follow the purges already; end one of them", maxTails))
		return
	}
	flush := http.NewResponseController(w)
	// The connection may serve another request after this one.
	defer func() { _ = flush.SetWriteDeadline(time.Time{}) }()
	began := false
	begin := func() error {
		began = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Cache-Control", "no-store")
		return flush.Flush()
	}
	err := s.cfg.Hand.Tail(r.Context(), r.URL.Query().Get("sink"), func(payload []byte) error {
		if payload == nil {
			return begin()
		}
		_ = flush.SetWriteDeadline(time.Now().Add(s.watchers.patience))
		if _, err := display.Writer(w).Write(append(payload, '\n')); err != nil {
			return err
		}
		return flush.Flush()
	})
	if err != nil && !began {
		failWith(w, err)
	}
}
