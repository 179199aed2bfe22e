package bunny

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// requestTimeout bounds one call of Purge, all its answers included.
const requestTimeout = 9 * time.Second

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one pull zone.
type Sink struct {
	cfg     Config
	base    string
	log     *slog.Logger
	http    *http.Client
	timeout time.Duration
	closed  atomic.Bool
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	return newSink(cfg, requestTimeout, logger)
}

func newSink(cfg Config, timeout time.Duration, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("bunny: %w", err)
	}
	base, err := httpsink.BaseURL(cfg.BaseURL, defaultBaseURL, cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("bunny: base_url: %w", err)
	}
	client := httpsink.NewClient(httpsink.Config{Proxy: true, Idle: atOnce, TLS: cfg.TLS})
	return &Sink{cfg: cfg, base: base.String(), log: logger, http: client, timeout: timeout}, nil
}

var errClosed = errors.New("bunny: the sink is closed")

// Purge sends one request for each value and blocks until all are answered, at most nine seconds.
//
// Values that Bunny can never take, or would take for more than themselves, are not sent and come
// back in a *sinks.BatchError, and so do values whose requests failed, the others being purged.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if s.closed.Load() {
		return errClosed
	}
	if len(batch) > perCall {
		return sinks.ItemError(fmt.Errorf("bunny: %d invalidations in one call; split it, at most %d fit", len(batch), perCall))
	}
	failed := map[int]error{}
	var places []int
	var values []string
	for i, inv := range batch {
		if inv.Kind != batch[0].Kind {
			return sinks.ItemError(fmt.Errorf("bunny: %s and %s in one call; split it, a call carries one kind", batch[0].Kind, inv.Kind))
		}
		if err := s.cfg.Accepts(inv); err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("bunny: %w", err))
			continue
		}
		places, values = append(places, i), append(values, inv.Value)
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	errs := httpsink.Each(values, atOnce, func(value string) error { return s.purge(ctx, bounded, batch[0].Kind, value) })
	if len(batch) == 1 && len(errs) == 1 {
		return errs[0]
	}
	for n, err := range errs {
		if err != nil {
			failed[places[n]] = err
		}
	}
	if len(failed) > 0 {
		return &sinks.BatchError{Failed: failed}
	}
	return nil
}

// purge sends one request.
func (s *Sink) purge(caller, bounded context.Context, kind invalidation.Kind, value string) error {
	path, body := "/pullzone/"+s.cfg.PullZoneID+"/purgeCache", []byte(nil)
	switch kind {
	case invalidation.Tag:
		var err error
		if body, err = json.Marshal(map[string]string{"CacheTag": strings.Replace(s.cfg.TagPattern, tagPlace, value, 1)}); err != nil {
			return fmt.Errorf("bunny: write the body: %w", err)
		}
	case invalidation.URL:
		query := url.Values{"url": {value}, "async": {"false"}}
		if s.cfg.ExactPaths {
			query.Set("exactPath", "true")
		}
		path = "/purge?" + query.Encode()
	}
	_, err := s.send(caller, bounded, http.MethodPost, path, body)
	return err
}

// send sends one request and returns the answer to one that was accepted.
func (s *Sink) send(caller, bounded context.Context, method, path string, body []byte) ([]byte, error) {
	token, err := httpsink.ReadToken(s.cfg.APITokenFile)
	if err != nil {
		return nil, fmt.Errorf("bunny: %w", err)
	}
	req, err := http.NewRequestWithContext(bounded, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		// It would name the URL.
		return nil, sinks.ItemError(errors.New("bunny: a value that no request can carry"))
	}
	req.Header.Set("AccessKey", token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "walpurge")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("bunny: %w", httpsink.Unanswered(caller, err, s.timeout))
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("bunny: %w", httpsink.Unanswered(caller, err, s.timeout))
	}
	ours := len(bytes.TrimSpace(raw)) == 0 || json.Valid(raw)
	err = verdict(resp.StatusCode, resp.Header, ours, time.Now())
	if err != nil {
		s.log.Debug("bunny refused", "status", resp.StatusCode, "bytes", len(raw))
	}
	return raw, err
}

// verdict returns nil for a request that was accepted, else an error that a lane can act on. A server
// fault says nothing about the request, and a refusal of the key or of the zone must never count
// against the invalidations, which would then be given up.
func verdict(status int, header http.Header, ours bool, now time.Time) error {
	errorf := func(meaning string) error { return fmt.Errorf("bunny: HTTP %d: %s", status, meaning) }
	switch {
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return errorf("the API is out of order")
	case status == http.StatusTooManyRequests:
		return sinks.ThrottledError(errorf("the account's request limit is used up; lower limits.requests_per_second if it happens often"), httpsink.RetryAfter(header, now))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return sinks.LaneError(errorf("the API key is refused; write one that is in force into api_token_file"))
	case status >= 300 && status < 400:
		return sinks.LaneError(errorf("a redirect, which is not followed; write the final address into base_url"))
	case !ours:
		return errorf("the answer is not from the API; a proxy may have given it")
	case status == http.StatusNotFound:
		return sinks.LaneError(errorf("the API does not know the pull zone; check pull_zone_id, base_url, and whose API key it is"))
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return sinks.ItemError(errorf("the API refuses what the request holds"))
	case status >= 400:
		return sinks.LaneError(errorf("the API does not take such requests; check base_url"))
	case status != http.StatusOK && status != http.StatusNoContent:
		return errorf("the API does not say that the purge was accepted")
	}
	return nil
}

// Check reports whether the key may see the pull zone (GET /pullzone/{id}), and whether the zone's
// settings let purges work as the configuration says. It purges nothing.
func (s *Sink) Check(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	raw, err := s.send(ctx, bounded, http.MethodGet, "/pullzone/"+s.cfg.PullZoneID, nil)
	if err != nil {
		return err
	}
	var zone struct {
		ID                 int64 `json:"Id"`
		IgnoreQueryStrings bool
		PermaCache         int64 `json:"PermaCacheStorageZoneId"`
	}
	if json.Unmarshal(raw, &zone) != nil || strconv.FormatInt(zone.ID, 10) != s.cfg.PullZoneID {
		return errors.New("bunny: the answer is not about the pull zone; check base_url")
	}
	var errs []error
	if s.cfg.ExactPaths && zone.IgnoreQueryStrings {
		errs = append(errs, errors.New("bunny: exact_paths has no effect while the pull zone ignores query strings: a URL that ends with a slash would purge all that begins with it; vary the cache by query string, or remove exact_paths"))
	}
	if zone.PermaCache > 0 && (s.cfg.uses == 0 || s.cfg.uses.Has(invalidation.Tag)) {
		errs = append(errs, errors.New("bunny: the pull zone has Perma-Cache, with which purges by tag do not work; turn it off, or send this sink URLs"))
	}
	if len(errs) > 0 {
		return sinks.LaneError(errors.Join(errs...))
	}
	return nil
}

// Close closes idle connections. Calls that follow fail.
func (s *Sink) Close() {
	s.closed.Store(true)
	s.http.CloseIdleConnections()
}
