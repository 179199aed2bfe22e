package warm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// LaneConfig is what a lane is made of.
type LaneConfig struct {
	Name    string
	Fetcher *Fetcher
	// Shadow counts and logs pages without fetching them.
	Shadow bool
	// Concurrency, RequestsPerSecond and MaxAge are those of Config.
	Concurrency       int
	RequestsPerSecond float64
	MaxAge            time.Duration
	// Purged blocks until the edges have purged all that the batch's transactions changed, second purges
	// included, or the context ends.
	Purged func(ctx context.Context, b *invalidation.Batch) error
	// Hot reports whether a page of a change that arrived at some time is to be fetched, once Purged has returned. Nil: all are.
	Hot func(url string, arrived time.Time) bool
	// Races observes the purges of Edges.
	Races *Races
	// Edges store pages. Those that are filled from others come later.
	Edges   []Edge
	Metrics *Metrics
	Logger  *slog.Logger
}

// Edge is a cache that stores what is fetched.
type Edge struct {
	Name string
	// SecondPurge is the time after which it purges everything again; 0: it does not.
	SecondPurge time.Duration
	// Purge has it purge a URL, and returns once that is durable. It is nil where the edge takes no URLs.
	Purge func(ctx context.Context, url string) error
}

const (
	// maxWaiting is how many pages wait at most, so that a dead edge does not fill the memory.
	maxWaiting = 10_000
	// maxAsked is how many batches wait for the edges at the same time.
	maxAsked = 256
	// maxTries is how often a page is fetched that is purged each time meanwhile.
	maxTries = 3
	// lingering is how long an edge may go on with a request that had no response in time, as far as is assumed:
	// Varnish's first_byte_timeout, and the usual limit of CDNs.
	lingering = time.Minute
	// maxLingering bounds those requests.
	maxLingering = 1024
	// purgePatience is how long a page waits to be purged once more before it may be fetched again.
	purgePatience = time.Minute
	// failuresInTurn is after how many failures in a row the lane pauses.
	failuresInTurn = 3
	minPause       = 100 * time.Millisecond
	maxPause       = 10 * time.Second
)

var (
	failing  = condition.Text{Level: slog.LevelWarn, On: "pages are not warmed, since requests fail", Off: "pages are warmed again"}
	dropping = condition.Text{Level: slog.LevelInfo, On: "pages are not warmed, since they waited for too long or there was no room"}
	shadowed = condition.Text{Level: slog.LevelInfo, On: "shadow: not warmed"}
	racing   = condition.Text{Level: slog.LevelInfo, On: "pages were purged while they were warmed, so they are purged once more"}
	unpurged = condition.Text{Level: slog.LevelWarn, On: "a page that was purged while it was warmed is not purged once more"}
)

// Lane is the queue of a warm sink. Run it once. The other methods may be called from any goroutine.
type Lane struct {
	cfg        LaneConfig
	metrics    *laneMetrics
	limiter    *rate.Limiter
	conditions *condition.Log
	lingers    chan struct{}

	mu     sync.Mutex
	queue  *queue
	paused bool
	// failures counts those in a row, until is when requests go on after them.
	failures int
	until    time.Time
	failed   error
	since    time.Time
	// changed is closed when something above has changed.
	changed chan struct{}
}

// NewLane returns a lane that does nothing until Run.
func NewLane(cfg LaneConfig) *Lane {
	return &Lane{
		cfg: cfg, metrics: cfg.Metrics.lane(cfg.Name), conditions: condition.NewLog(cfg.Logger),
		limiter: rate.NewLimiter(rate.Limit(cfg.RequestsPerSecond), cfg.Concurrency),
		lingers: make(chan struct{}, maxLingering),
		queue:   newQueue(cfg.MaxAge, maxWaiting), changed: make(chan struct{}), since: time.Now(),
	}
}

// Add takes the URLs of a batch, and does not block. What else the batch holds concerns purges only.
func (l *Lane) Add(b *invalidation.Batch) {
	var urls []string
	for i := range b.Items {
		urls = append(urls, b.Items[i].Values[invalidation.URL]...)
	}
	if len(urls) == 0 {
		return
	}
	stamped := &invalidation.Batch{Sink: b.Sink, Origin: b.Origin, Stamp: b.Stamp}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	l.lose(resultNoRoom, l.queue.add(stamped, urls, time.Now()))
	l.change()
}

// change wakes those that wait. The caller holds the lock.
func (l *Lane) change() {
	close(l.changed)
	l.changed = make(chan struct{})
	l.metrics.waiting.Set(float64(l.queue.pages))
}

// expire drops what is too old. The caller holds the lock.
func (l *Lane) expire() {
	if n := l.queue.expire(time.Now()); n > 0 {
		l.lose(resultTooOld, n)
		l.change()
	}
}

func (l *Lane) lose(why string, pages int) {
	if pages > 0 {
		l.metrics.pages[why].Add(float64(pages))
		l.conditions.At(dropping, "reason", why).Observe("pages", condition.Sum(pages))
	}
}

// Run works until intake ends. Requests in flight are finished, as far as work allows.
func (l *Lane) Run(intake, work context.Context) error {
	defer l.conditions.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { l.ask(intake) })
	all.Go(func() {
		for {
			select {
			case <-beat.After(time.Second):
			case <-intake.Done():
				return
			}
			l.mu.Lock()
			l.expire()
			l.mu.Unlock()
		}
	})
	for range l.cfg.Concurrency {
		all.Go(func() {
			for {
				p := l.next(intake)
				if p == nil {
					return
				}
				l.warm(intake, work, p, &all)
			}
		})
	}
	return nil
}

// ask has a goroutine for each arrival that waits for the edges.
func (l *Lane) ask(ctx context.Context) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	free := make(chan struct{}, maxAsked)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		a, changed := l.queue.ask(), l.changed
		l.mu.Unlock()
		if a == nil {
			<-free
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		waiting.Go(func() {
			defer func() { <-free }()
			bounded, cancel := context.WithDeadline(ctx, a.at().Add(l.cfg.MaxAge+time.Second))
			defer cancel()
			if err := l.cfg.Purged(bounded, a.batch); err != nil {
				return // it becomes too old
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.expire()
			if l.cfg.Hot != nil {
				cold := l.queue.keep(a, func(url string) bool { return l.cfg.Hot(url, a.arrived) })
				l.metrics.pages[resultNotHot].Add(float64(cold))
			}
			l.queue.open(a)
			l.change()
		})
	}
}

// next blocks until a page has its turn. It returns nil when the context ends.
func (l *Lane) next(ctx context.Context) *page {
	for {
		l.mu.Lock()
		l.expire()
		changed, rest := l.changed, time.Until(l.until)
		if ctx.Err() == nil && !l.paused && rest <= 0 {
			if p := l.queue.next(); p != nil {
				l.metrics.waiting.Set(float64(l.queue.pages))
				l.mu.Unlock()
				return p
			}
		}
		l.mu.Unlock()
		var rested <-chan time.Time
		if rest > 0 {
			rested = time.After(rest)
		}
		select {
		case <-changed:
		case <-rested:
		case <-ctx.Done():
			return nil
		}
	}
}

// done ends what is done with a page.
func (l *Lane) done(p *page, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.done(p, again)
	l.change()
}

// warm fetches a page, and has it purged once more if an edge has purged it meanwhile.
func (l *Lane) warm(intake, work context.Context, p *page, all *sync.WaitGroup) {
	if l.cfg.Shadow {
		l.metrics.pages[resultShadow].Inc()
		l.conditions.At(shadowed).Observe("pages", condition.Sum(1))
		l.cfg.Logger.Debug("shadow: not warmed", "url", p.url)
		l.done(p, false)
		return
	}
	asked, err := l.cfg.Fetcher.Page(p.url)
	if err != nil {
		l.metrics.pages[resultNotValid].Inc()
		l.cfg.Logger.Debug("not warmed", "url", p.url, "err", err)
		l.done(p, false)
		return
	}
	flight := l.cfg.Races.Begin(asked.URI)
	result, timedOut := l.fetch(intake, work, asked)
	if !timedOut {
		l.land(intake, p, asked, flight, result)
		return
	}
	land := func() {
		select {
		case <-time.After(lingering):
		case <-intake.Done():
		}
		l.land(intake, p, asked, flight, result)
	}
	select {
	case l.lingers <- struct{}{}:
		all.Go(func() {
			defer func() { <-l.lingers }()
			land()
		})
	default:
		land()
	}
}

// fetch makes the requests of a page. timedOut reports that the edge may still be fetching.
func (l *Lane) fetch(intake, work context.Context, asked Page) (result string, timedOut bool) {
	result = resultWarmed
	for i := range asked.Requests() {
		if l.limiter.Wait(intake) != nil {
			return resultFailed, timedOut
		}
		began := time.Now()
		a, err := l.cfg.Fetcher.Fetch(work, asked, i)
		l.metrics.request(time.Since(began), a, err)
		timedOut = timedOut || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
		if err == nil {
			err = a.Err()
		}
		if err != nil {
			result = resultFailed
		}
		if l.answered(a, err) {
			break // the other requests would fail, too
		}
	}
	return result, timedOut
}

// answered notes an answer, and reports whether the lane pauses now.
func (l *Lane) answered(a Answer, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.failures, l.failed = 0, nil
		l.conditions.At(failing).End()
		return false
	}
	if a.Status >= 400 && a.Status < 500 && a.RetryAfter == 0 {
		return false // of this page
	}
	if l.failed == nil {
		l.since = time.Now()
	}
	l.failed = err
	l.failures++
	l.conditions.At(failing).Observe("err", err, "requests", condition.Sum(1))
	pause := a.RetryAfter
	if l.failures >= failuresInTurn {
		pause = max(pause, min(minPause<<min(l.failures-failuresInTurn, 10), maxPause))
	}
	if pause > 0 {
		l.until = time.Now().Add(pause)
	}
	return pause > 0
}

// land has a page purged once more at the edges that have purged it while it was fetched, and ends what is done with it.
func (l *Lane) land(ctx context.Context, p *page, asked Page, flight *Flight, result string) {
	raced := l.cfg.Races.End(flight)
	now := time.Now()
	again, due := true, false
	for _, e := range l.cfg.Edges {
		first, some := raced[e.Name]
		if !some || e.SecondPurge > 0 && now.Before(first.Add(e.SecondPurge)) {
			continue // the second purge removes what was stored
		}
		due = true
		// With a second purge to come, the next visitor may as well fetch it.
		again = l.purge(ctx, e, asked) && e.SecondPurge == 0 && again
	}
	if !due {
		l.metrics.pages[result].Inc()
		l.done(p, false)
		return
	}
	l.conditions.At(racing).Observe("pages", condition.Sum(1), "edges", len(raced))
	p.tries++
	if again = again && p.tries < maxTries && result == resultWarmed && ctx.Err() == nil; !again {
		l.metrics.pages[resultRaced].Inc()
	}
	l.done(p, again)
}

// purge has an edge purge a page once more, and reports whether it has.
func (l *Lane) purge(ctx context.Context, e Edge, asked Page) bool {
	if e.Purge == nil {
		l.conditions.At(unpurged, "edge", e.Name).Observe("err", "the edge takes no URLs", "pages", condition.Sum(1))
		return false
	}
	purged, stop := l.cfg.Races.Await(e.Name, asked.URI)
	defer stop()
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := e.Purge(storing, asked.URL); err != nil {
		l.conditions.At(unpurged, "edge", e.Name).Observe("err", err, "pages", condition.Sum(1))
		return false
	}
	select {
	case <-purged:
		return true
	case <-time.After(purgePatience):
	case <-ctx.Done():
	}
	return false
}

// Wait blocks until no page of a change up to the position waits or is fetched. The batches of these changes must have
// been added.
func (l *Lane) Wait(ctx context.Context, upTo cdc.Position) error {
	for {
		l.mu.Lock()
		holds, changed := l.queue.holds(upTo), l.changed
		l.mu.Unlock()
		if !holds {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Pause holds requests back. Pages wait meanwhile, and are dropped when they are too old.
func (l *Lane) Pause() { l.pause(true) }

// Resume ends a pause, also that after failures.
func (l *Lane) Resume() { l.pause(false) }

func (l *Lane) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused != paused {
		l.since = time.Now()
	}
	l.paused = paused
	if !paused {
		l.until = time.Time{}
	}
	l.change()
}

// Status is a lane's condition.
type Status struct {
	// State is ok, paused or failing.
	State string
	// Err is the newest failure while the lane fails.
	Err   string
	Since time.Time
	// Waiting are pages that wait, Running those that are fetched or purged once more.
	Waiting, Running int
}

// Status returns what the lane is doing.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{State: "ok", Since: l.since, Waiting: l.queue.pages, Running: len(l.queue.busy)}
	if l.failures >= failuresInTurn {
		s.State, s.Err = "failing", l.failed.Error()
	}
	if l.paused {
		s.State = "paused"
	}
	return s
}
