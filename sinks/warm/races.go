package warm

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Races finds requests that run while an edge purges what they fetch. The response may have been made before the
// change, and a cache stores it although the purge is done: a purge removes what is stored, not what is under way.
// Its methods may be called from any goroutine.
type Races struct {
	mu      sync.Mutex
	flights map[*Flight]struct{}
	waits   map[*wait]struct{}
}

// NewRaces returns one that knows of no request and no purge.
func NewRaces() *Races {
	return &Races{flights: map[*Flight]struct{}{}, waits: map[*wait]struct{}{}}
}

// Flight is the time from before a page is asked for until the edge has stored it.
type Flight struct {
	uri string
	// raced says for each edge that has purged meanwhile when the first such purge was seen.
	raced map[string]time.Time
}

// wait ends with the next purge of a page by its URL.
type wait struct {
	edge, uri string
	done      chan struct{}
}

// Begin registers a request of a page that is about to be made. A purge that runs already is no race: purges begin
// when their changes are visible, so the response will be made after the change.
func (r *Races) Begin(uri string) *Flight {
	f := &Flight{uri: uri, raced: map[string]time.Time{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flights[f] = struct{}{}
	return f
}

// End is called when the edge has stored the response. It returns the edges that may have purged the page meanwhile,
// with the time of the first such purge.
func (r *Races) End(f *Flight) map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, f)
	return f.raced
}

// Await returns a channel that is closed once the edge has carried out a purge of the page by its URL that began after
// this call. Stop ends the wait.
func (r *Races) Await(edge, uri string) (done <-chan struct{}, stop func()) {
	w := &wait{edge: edge, uri: uri, done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits[w] = struct{}{}
	return w.done, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waits, w)
	}
}

// Watch returns the sink of an edge with its purges observed.
func (r *Races) Watch(edge string, s sinks.Sink) sinks.Sink { return watched{s, r, edge} }

type watched struct {
	sink  sinks.Sink
	races *Races
	edge  string
}

// Purge implements sinks.Sink.
func (w watched) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	end := w.races.purging(w.edge, batch)
	err := w.sink.Purge(ctx, batch)
	var some *sinks.BatchError
	end(err == nil || errors.As(err, &some))
	return err
}

// purging notes a purge that begins, and returns what is called when it ends.
func (r *Races) purging(edge string, batch []invalidation.Invalidation) (end func(done bool)) {
	uris, others := map[string]struct{}{}, false
	for _, inv := range batch {
		if uri, ok := uriOf(inv); ok {
			uris[uri] = struct{}{}
		} else {
			others = true // tags, prefixes and everything may name any page
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for f := range r.flights {
		_, named := uris[f.uri]
		if _, known := f.raced[edge]; !known && (named || others) {
			f.raced[edge] = now
		}
	}
	var meant []*wait
	for w := range r.waits {
		if _, named := uris[w.uri]; named && w.edge == edge {
			meant = append(meant, w)
		}
	}
	return func(done bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range meant {
			if _, waits := r.waits[w]; waits && done {
				delete(r.waits, w)
				close(w.done)
			}
		}
	}
}

// uriOf is path and query of a purge by URL. The host is left out, since edge and warm sink may name it differently.
func uriOf(inv invalidation.Invalidation) (string, bool) {
	if inv.Kind != invalidation.URL {
		return "", false
	}
	text, _, err := urlvariant.Cut(inv.Value)
	if err != nil {
		return "", false
	}
	u, err := httpsink.ParseURL(text)
	if err != nil {
		return "", false
	}
	return u.RequestURI(), true
}
