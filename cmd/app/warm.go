package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery"
	"github.com/walpurge/walpurge/sinks/warm"
)

// warmLane is a warm sink at work. Its batches do not pass through the stream: what a stop or a crash loses of them
// is fetched by the next visitors.
type warmLane struct {
	*warm.Lane
	spec config.Warm
	// paused is the pause in force, nil without one.
	paused atomic.Pointer[stream.Pause]
}

// openWarms makes the warm sinks.
func (a *App) openWarms() error {
	if len(a.cfg.Warms) == 0 {
		return nil
	}
	metrics := warm.NewMetrics(a.working)
	a.races = warm.NewRaces()
	for _, spec := range a.cfg.Warms {
		f, err := warm.NewFetcher(*spec.Config, a.cfg.Pipeline+"/"+spec.Name)
		if err != nil {
			return fmt.Errorf("sink %s: %w", spec.Name, err)
		}
		a.onClose(f.Close)
		w := &warmLane{spec: spec}
		w.Lane = warm.NewLane(warm.LaneConfig{
			Name: spec.Name, Fetcher: f, Shadow: spec.Shadow,
			Concurrency: spec.Config.Concurrency, RequestsPerSecond: spec.Config.RequestsPerSecond, MaxAge: spec.Config.MaxAge,
			Purged: func(ctx context.Context, b *invalidation.Batch) error { return a.purgedFor(ctx, spec, b) },
			Hot:    a.hotPages(spec),
			Races:  a.races, Edges: a.edges(spec), Metrics: metrics, Logger: a.log.With("sink", spec.Name),
		})
		a.warms = append(a.warms, w)
	}
	return nil
}

// observer is what a sink reports to. It remembers pages where a warm sink fetches only those that the sink had.
func (a *App) observer(sink string) sinkObserver {
	o := sinkObserver{hits: a.hits, sink: sink}
	if slices.ContainsFunc(a.cfg.Warms, func(w config.Warm) bool { return w.Config.Hot == sink }) {
		if a.hot == nil {
			a.hot = warm.NewHot()
		}
		o.pages = a.hot
	}
	return o
}

// hotPages says which pages a warm sink fetches, nil for all.
func (a *App) hotPages(spec config.Warm) func(url string, arrived time.Time) bool {
	if spec.Config.Hot == "" {
		return nil
	}
	return func(url string, arrived time.Time) bool { return a.hot.Since(spec.Config.Hot, url, arrived) }
}

// warm returns the warm sink of a name, or nil.
func (a *App) warm(name string) *warmLane {
	for _, w := range a.warms {
		if w.spec.Name == name {
			return w
		}
	}
	return nil
}

// stores reports that a sink purges a cache of pages: a warm request fills it.
func stores(s config.Sink) bool {
	return s.Config.Kinds()&invalidation.Kinds(invalidation.URL) != 0
}

// edges are the caches that a warm sink fills, inner ones first.
func (a *App) edges(spec config.Warm) (edges []warm.Edge) {
	for _, s := range a.cfg.Sinks {
		if !slices.Contains(spec.After, s.Name) || !stores(s) {
			continue
		}
		e := warm.Edge{Name: s.Name, SecondPurge: s.SecondPurge}
		if s.Takes.Has(invalidation.URL) && !s.Shadow {
			e.Purge = func(ctx context.Context, url string) error { return a.purgePage(ctx, s.Name, url) }
		}
		edges = append(edges, e)
	}
	return edges
}

// purgePage stores a manual purge of a page.
func (a *App) purgePage(ctx context.Context, sink, url string) error {
	l, err := a.lane(sink)
	if err != nil {
		return err
	}
	now := time.Now()
	b := &invalidation.Batch{Sink: sink, Items: []invalidation.Item{{Rule: "by_hand"}}}
	b.Items[0].Values[invalidation.URL] = withVariants([]string{url}, a.variants(l))
	b.Stamp.FirstCommit, b.Stamp.LastCommit = now, now
	return a.stream.PublishManual(ctx, b)
}

// watched is the sink of a target, with its purges observed where a warm sink fills its cache.
func (a *App) watched(t target) sinks.Sink {
	fills := func(w config.Warm) bool { return slices.Contains(w.After, t.spec.Name) }
	if !stores(t.spec) || !slices.ContainsFunc(a.cfg.Warms, fills) {
		return t.Sink
	}
	return a.races.Watch(t.spec.Name, t.Sink)
}

// purgedFor blocks until the sinks that a warm sink waits for have purged what a batch's transactions changed, second
// purges included.
func (a *App) purgedFor(ctx context.Context, spec config.Warm, b *invalidation.Batch) error {
	if err := a.board.Wait(ctx, watermark.Mark{Stage: watermark.Published}, b.Stamp.Position); err != nil {
		return err
	}
	// Behind this claim lies nothing of the transactions.
	_, seq, found, err := a.stream.LastClaim(ctx)
	if err != nil || !found {
		return errors.Join(errors.New("the stream has no claim"), err)
	}
	for _, inner := range spec.After {
		l, err := a.lane(inner)
		if err != nil {
			return err
		}
		if err := l.Past(ctx, invalidation.Message{Seq: seq, Batch: b}, delivery.Settled, l.consumer.Past); err != nil {
			return err
		}
	}
	return nil
}

// routed is where the router's batches go: those of warm sinks to their lanes, all others to the stream.
func (a *App) routed() router.Publisher {
	if len(a.warms) == 0 {
		return a.publisher
	}
	lanes := make(map[string]*warm.Lane, len(a.warms))
	for _, w := range a.warms {
		lanes[w.spec.Name] = w.Lane
	}
	return warming{a.publisher, lanes}
}

type warming struct {
	router.Publisher
	lanes map[string]*warm.Lane
}

// Publish implements router.Publisher.
func (w warming) Publish(ctx context.Context, b *invalidation.Batch) error {
	if lane := w.lanes[b.Sink]; lane != nil {
		lane.Add(b)
		return nil
	}
	return w.Publisher.Publish(ctx, b)
}

// status is the sink for the status.
func (w *warmLane) status(pages map[string]float64) status.Warm {
	st := w.Status()
	out := status.Warm{Name: w.spec.Name, State: st.State, Since: st.Since.UTC(), Error: st.Err, Waiting: st.Waiting, Pages: pages}
	if p := w.paused.Load(); p != nil {
		out.PausedSince, out.PausedUntil = &p.Since, p.Until
	}
	return out
}

// warm checks a warm sink.
func (c *checker) warm(ctx context.Context, cfg *config.Config, w *config.Warm) {
	f, err := warm.NewFetcher(*w.Config, cfg.Pipeline+"/"+w.Name)
	if err != nil {
		c.add(true, fmt.Errorf("sink %s: %w", w.Name, err))
		return
	}
	defer f.Close()
	if err := f.Check(ctx); err != nil {
		c.add(false, fmt.Errorf("sink %s: %w", w.Name, err))
	}
	edge := false
	for _, s := range cfg.Sinks {
		if !slices.Contains(w.After, s.Name) || !stores(s) {
			continue
		}
		edge = true
		if !s.Takes.Has(invalidation.URL) && s.SecondPurge <= w.Config.Timeout {
			c.note(fmt.Sprintf("sink %s: a page that changes while it is warmed may be stored old, and %s takes no URLs to purge it by; "+
				"let it take them, or give it a second_purge above %s", w.Name, s.Name, w.Config.Timeout))
		}
	}
	if !edge {
		c.note(fmt.Sprintf("sink %s: none of the sinks in `after` purges pages, so what it warms may be stored old where it changes meanwhile; name the one that purges the edge", w.Name))
	}
}

// warmed reports that a sink purges nothing, so that what does not reach it leaves nothing stale.
func (c *checker) warmed(sink string) bool {
	return slices.ContainsFunc(c.warms, func(w config.Warm) bool { return w.Name == sink })
}
