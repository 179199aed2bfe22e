package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
)

const (
	// maxWatchers bounds how many may follow the status at a time.
	maxWatchers = 32
	// eventEvery is the time between two status documents.
	eventEvery = time.Second
	// patience is how long a client may take to read one, or one line of tail.
	patience = 10 * time.Second
)

// watchers are those that follow the status. They share its documents, so that
// many of them cost the daemon as little as one.
type watchers struct {
	status   func(ctx context.Context) any
	every    time.Duration
	patience time.Duration
	seats    chan struct{}
	gone     chan struct{}

	mu  sync.Mutex
	doc []byte
	at  time.Time
}

func newWatchers(status func(ctx context.Context) any) *watchers {
	return &watchers{status: status, every: eventEvery, patience: patience, seats: make(chan struct{}, maxWatchers), gone: make(chan struct{})}
}

// dismiss ends all of them; it is called once.
func (w *watchers) dismiss() { close(w.gone) }

// latest returns a status document, at most half a period old.
func (w *watchers) latest(ctx context.Context) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.doc != nil && time.Since(w.at) < w.every/2 {
		return w.doc, nil
	}
	// Others wait for the same document, so one that leaves does not end it.
	doc, err := json.Marshal(w.status(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, err
	}
	w.doc, w.at = doc, time.Now()
	return doc, nil
}

// events sends the status document now and then every second, as server-sent
// events (WHATWG HTML, 9.2), until the client leaves or the server ends.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.watchers.seats <- struct{}{}:
		defer func() { <-s.watchers.seats }()
	default:
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d clients follow the status already; read /api/v1/status instead", maxWatchers))
		return
	}
	out := http.NewResponseController(w)
	// The connection may serve another request after this one.
	defer func() { _ = out.SetWriteDeadline(time.Time{}) }()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	tick := time.NewTicker(s.watchers.every)
	defer tick.Stop()
	for {
		doc, err := s.watchers.latest(r.Context())
		if err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Now().Add(s.watchers.patience))
		if _, err := fmt.Fprintf(display.Writer(w), "data: %s\n\n", doc); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.watchers.gone:
			return
		case <-tick.C:
		}
	}
}
