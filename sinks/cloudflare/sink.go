package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/cache"
	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
)

// requestTimeout bounds one request, its answer included.
const requestTimeout = 9 * time.Second

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one zone.
type Sink struct {
	cfg     Config
	limits  sinks.Limits
	log     *slog.Logger
	http    *http.Client
	cache   *cache.CacheService
	timeout time.Duration
	closed  atomic.Bool
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	return newSink(cfg, requestTimeout, logger)
}

func newSink(cfg Config, timeout time.Duration, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cloudflare: %w", err)
	}
	base, err := cfg.baseURL()
	if err != nil {
		return nil, fmt.Errorf("cloudflare: base_url: %w", err)
	}
	client := httpClient()
	return &Sink{
		cfg:     cfg,
		limits:  cfg.Limits(),
		log:     logger,
		http:    client,
		timeout: timeout,
		// Unlike the SDK's client, its services read nothing from the
		// environment.
		cache: cache.NewCacheService(
			option.WithBaseURL(base+"/"),
			option.WithHTTPClient(client),
			option.WithRequestTimeout(timeout),
			// The SDK would sleep for as long as Retry-After says.
			option.WithMaxRetries(0),
			option.WithHeader("User-Agent", "walpurge"),
		),
	}, nil
}

var errClosed = errors.New("cloudflare: the sink is closed")

// Purge sends one request for the whole batch and blocks until it is answered,
// at most ten seconds.
//
// Tags that Cloudflare can never take are not sent and come back in a
// *sinks.BatchError, the others being purged. If the request fails, that error
// stands for the whole batch.
func (s *Sink) Purge(ctx context.Context, batch []rules.Invalidation) error {
	if s.closed.Load() {
		return errClosed
	}
	if len(batch) == 0 {
		return nil
	}
	if len(batch) > s.limits.Items {
		return sinks.ItemError(fmt.Errorf("cloudflare: %d invalidations in one call; split it, at most %d fit into a request", len(batch), s.limits.Items))
	}
	kind := batch[0].Kind
	for _, inv := range batch {
		if inv.Kind != kind {
			return sinks.ItemError(fmt.Errorf("cloudflare: %s and %s in one call; split it, a request carries one kind", kind, inv.Kind))
		}
	}
	switch kind {
	case rules.Tag:
		return s.purgeTags(ctx, batch)
	case rules.Everything:
		var body cache.CachePurgeParamsBodyCachePurgeEverything
		body.PurgeEverything.Value, body.PurgeEverything.Present = true, true
		return s.post(ctx, body)
	}
	return sinks.ItemError(fmt.Errorf("cloudflare: cannot purge by %s; send tags or everything", kind))
}

func (s *Sink) purgeTags(ctx context.Context, batch []rules.Invalidation) error {
	tags := make([]string, 0, len(batch))
	failed := map[int]error{}
	for i, inv := range batch {
		if err := checkTag(inv.Value); err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("cloudflare: %w", err))
			continue
		}
		tags = append(tags, inv.Value)
	}
	if len(tags) > 0 {
		if err := s.postTags(ctx, tags); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return &sinks.BatchError{Failed: failed}
	}
	return nil
}

const maxTag = 1024

// checkTag tells whether Cloudflare can have stored a tag of this name: it
// takes 1 to 1,024 printable ASCII characters without space, and commas
// separate tags (developers.cloudflare.com/cache/how-to/purge-cache/purge-by-tags).
func checkTag(tag string) error {
	if tag == "" {
		return errors.New("an empty tag")
	}
	if len(tag) > maxTag {
		return fmt.Errorf("a tag of %d bytes, at most %d fit; hash long tags in the rule and in the Cache-Tag header alike", len(tag), maxTag)
	}
	for i := range len(tag) {
		if c := tag[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("a tag with a space, a comma, a control or a non-ASCII character (byte %d), which no Cache-Tag header can carry; escape or hash it in the rule and in the header alike", i)
		}
	}
	return nil
}

// checkTagName is a tag that no application uses.
const checkTagName = "walpurge-check"

// Check reports whether the token reaches the zone and may purge it, by purging
// the tag "walpurge-check": the API has no request that asks for this
// permission and changes nothing. It costs one request of the account's budget
// and blocks like Purge.
func (s *Sink) Check(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.postTags(ctx, []string{checkTagName})
}

// Close closes idle connections. Calls that follow fail.
func (s *Sink) Close() {
	s.closed.Store(true)
	s.http.CloseIdleConnections()
}
