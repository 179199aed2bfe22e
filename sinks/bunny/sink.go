package bunny

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one pull zone.
type Sink struct {
	*httpsink.Base
	cfg  Config
	base string
	log  *slog.Logger
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("bunny: %w", err)
	}
	base, err := httpsink.BaseURL(cfg.BaseURL, defaultBaseURL, cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("bunny: base_url: %w", err)
	}
	return &Sink{
		Base: httpsink.NewBase("bunny", httpsink.Config{Proxy: true, Idle: atOnce, TLS: cfg.TLS}),
		cfg:  cfg, base: base.String(), log: logger,
	}, nil
}

// Purge sends one request for each value and blocks until all are answered, at most nine seconds.
//
// Values that Bunny can never take, or would take for more than themselves, are not sent and come
// back in a *sinks.BatchError, and so do values whose requests failed, the others being purged.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.AdmitOneKind(batch, s.cfg.Limits()); err != nil {
		return err
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	return s.Select(batch, s.cfg.Accepts).Each(atOnce, func(value string) error { return s.purge(ctx, bounded, batch[0].Kind, value) })
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
	resp, err := s.Send(caller, bounded, httpsink.Request{
		Method: method, URL: s.base + path, TokenFile: s.cfg.APITokenFile, TokenHeader: "AccessKey", Body: body,
	})
	if err != nil {
		return nil, err
	}
	ours := len(bytes.TrimSpace(resp.Body)) == 0 || json.Valid(resp.Body)
	err = verdict(resp.Status, resp.Header, ours, time.Now())
	if err != nil {
		s.log.Debug("bunny refused", "status", resp.Status, "bytes", len(resp.Body))
	}
	return resp.Body, err
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
	if err := s.Open(); err != nil {
		return err
	}
	bounded, cancel := s.Bound(ctx)
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
