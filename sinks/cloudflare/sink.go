package cloudflare

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cloudflare/cloudflare-go/v7/cache"
	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// atOnce bounds the requests of a call that are under way together.
const atOnce = 4

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one zone, or several of one account.
type Sink struct {
	*httpsink.Base
	cfg    Config
	base   string
	zones  zones
	limits sinks.Limits
	log    *slog.Logger
	cache  *cache.CacheService
	pace   pacer
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cloudflare: %w", err)
	}
	address, err := cfg.baseURL()
	if err != nil {
		return nil, fmt.Errorf("cloudflare: base_url: %w", err)
	}
	base := httpsink.NewBase("cloudflare", httpsink.Config{Proxy: true, Idle: atOnce, TLS: cfg.TLS})
	return &Sink{
		Base: base, cfg: cfg, base: address, zones: newZones(cfg), limits: cfg.Limits(), log: logger,
		// Unlike the SDK's client, its services read nothing from the
		// environment.
		cache: cache.NewCacheService(
			option.WithBaseURL(address+"/"),
			option.WithHTTPClient(base.HTTP),
			// The SDK would sleep for as long as Retry-After says.
			option.WithMaxRetries(0),
			option.WithHeader("User-Agent", "walpurge"),
		),
	}, nil
}

// Purge sends one request to each zone that the batch is about, and blocks until
// all are answered, at most ten seconds. Tags, and everything, are about all
// zones; a URL or a prefix is about the zone of its host.
//
// Values that Cloudflare can never take, and those without a zone, are not sent
// and come back in a *sinks.BatchError, the others being purged. If a request by
// tag or of everything fails, an error is the whole batch's; with several
// zones the others have been purged nevertheless. If a request by URL or prefix
// fails, its values come back in a *sinks.BatchError when other zones took theirs.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.AdmitOneKind(batch, s.limits); err != nil || len(batch) == 0 {
		return err
	}
	kind := batch[0].Kind
	failed := map[int]error{}
	calls := make([]request, len(s.zones.list))
	for i, inv := range batch {
		place, err := s.zones.place(inv)
		if err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("cloudflare: %w", err))
			continue
		}
		for z := range calls {
			if place == every || place == z {
				calls[z].add(i, inv.Value)
			}
		}
	}
	errs := s.send(ctx, kind, calls)
	var err error
	if kind == invalidation.URL || kind == invalidation.URLPrefix {
		err = settle(calls, errs, failed)
	} else {
		err = worst(errs)
	}
	if err != nil {
		return err
	}
	return httpsink.Refused(failed)
}

// request is what one zone is asked for: values and their places in the batch.
type request struct {
	places []int
	values []string
}

func (r *request) add(place int, value string) {
	r.places, r.values = append(r.places, place), append(r.values, value)
}

// send posts the requests that hold something, some at once, and returns their
// errors by zone. Once one is throttled no other is begun: the limit is the
// account's.
func (s *Sink) send(ctx context.Context, kind invalidation.Kind, calls []request) []error {
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	errs := make([]error, len(calls))
	slots := make(chan struct{}, atOnce)
	var throttled atomic.Pointer[error]
	var g sync.WaitGroup
	for z := range calls {
		if len(calls[z].places) == 0 {
			continue
		}
		slots <- struct{}{}
		if first := throttled.Load(); first != nil {
			errs[z] = *first
			<-slots
			continue
		}
		g.Go(func() {
			defer func() { <-slots }()
			errs[z] = s.post(ctx, bounded, s.zones.list[z], body(kind, calls[z].values, s.cfg.Headers))
			if class, _ := sinks.ClassOf(errs[z]); class == sinks.Throttled {
				throttled.CompareAndSwap(nil, &errs[z])
			}
		})
	}
	g.Wait()
	return errs
}

// settle notes failed requests under the places of their values. It returns an
// error for the whole batch where nothing went well, or where the API refused
// one of several values and does not say which: the lane then splits.
func settle(calls []request, errs []error, failed map[int]error) error {
	asked, refused := 0, 0
	for z, err := range errs {
		if len(calls[z].places) == 0 {
			continue
		}
		asked++
		if err == nil {
			continue
		}
		refused++
		if class, _ := sinks.ClassOf(err); class == sinks.Item && len(calls[z].places) > 1 {
			return err
		}
	}
	if asked == refused {
		return worst(errs)
	}
	for z, err := range errs {
		if err != nil {
			for _, place := range calls[z].places {
				failed[place] = err
			}
		}
	}
	return nil
}

// worst is the error that a lane has to act on first: nothing may be given up as
// refused while another zone might still take it.
func worst(errs []error) error {
	urgency := map[sinks.Class]int{sinks.Item: 1, sinks.Transient: 2, sinks.Lane: 3, sinks.Throttled: 4}
	var out error
	most := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		if class, _ := sinks.ClassOf(err); urgency[class] > most {
			out, most = err, urgency[class]
		}
	}
	return out
}
