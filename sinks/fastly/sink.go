package fastly

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
	"strings"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// requestTimeout bounds one request, its answer included.
const requestTimeout = 9 * time.Second

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one service.
type Sink struct {
	cfg     Config
	base    string
	limits  sinks.Limits
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
		return nil, fmt.Errorf("fastly: %w", err)
	}
	base, err := httpsink.BaseURL(cfg.BaseURL, defaultBaseURL, cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("fastly: base_url: %w", err)
	}
	return &Sink{cfg: cfg, base: base.String(), limits: cfg.Limits(), log: logger, http: httpsink.NewClient(httpsink.Config{Proxy: true, Idle: atOnce, TLS: cfg.TLS}), timeout: timeout}, nil
}

var errClosed = errors.New("fastly: the sink is closed")

// Purge sends one request for the whole batch, or one for each URL, and blocks
// until all are answered, at most ten seconds.
//
// Values that Fastly can never take are not sent and come back in a
// *sinks.BatchError, and so do URLs whose requests failed, the others being
// purged. If a request by tag or of everything fails, its error stands for the
// whole batch.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if s.closed.Load() {
		return errClosed
	}
	if len(batch) == 0 {
		return nil
	}
	kind := batch[0].Kind
	for _, inv := range batch {
		if inv.Kind != kind {
			return sinks.ItemError(fmt.Errorf("fastly: %s and %s in one call; split it, a request carries one kind", kind, inv.Kind))
		}
	}
	if most := s.limits.ItemsOf(kind); len(batch) > most {
		return sinks.ItemError(fmt.Errorf("fastly: %d invalidations in one call; split it, at most %d fit", len(batch), most))
	}
	failed := map[int]error{}
	var places []int
	var values []string
	for i, inv := range batch {
		if err := s.cfg.Accepts(inv); err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("fastly: %w", err))
			continue
		}
		places, values = append(places, i), append(values, inv.Value)
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	switch {
	case len(values) == 0:
	case kind == invalidation.URL:
		errs := httpsink.Each(values, atOnce, func(value string) error {
			return s.purge(ctx, bounded, invalidation.URL, []string{value})
		})
		if len(batch) == 1 {
			return errs[0]
		}
		for n, err := range errs {
			if err != nil {
				failed[places[n]] = err
			}
		}
	default:
		if err := s.purge(ctx, bounded, kind, values); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return &sinks.BatchError{Failed: failed}
	}
	return nil
}

// purge sends one request; values of everything are without meaning.
func (s *Sink) purge(caller, bounded context.Context, kind invalidation.Kind, values []string) error {
	path, body := "/service/"+s.cfg.ServiceID+"/purge", any(nil)
	switch kind {
	case invalidation.Everything:
		path += "_all"
	case invalidation.URL:
		rest, err := purgePath(values[0])
		if err != nil {
			return sinks.ItemError(fmt.Errorf("fastly: %w", err))
		}
		path = "/purge/" + rest
	default:
		body = map[string][]string{"surrogate_keys": values}
	}
	resp, raw, err := s.send(bounded, http.MethodPost, path, body, kind != invalidation.Everything && s.cfg.Soft)
	if err != nil {
		return s.unanswered(caller, err)
	}
	var said map[string]json.RawMessage
	a := answer{kind: kind, status: resp.StatusCode, header: resp.Header, ours: json.Unmarshal(raw, &said) == nil && said != nil}
	if kind == invalidation.Tag {
		a.accepted = len(said) > 0 // an id for each key
	} else {
		a.accepted = string(said["status"]) == `"ok"`
	}
	return a.verdict(time.Now())
}

// send sends one request and reads the whole answer.
func (s *Sink) send(ctx context.Context, method, path string, body any, soft bool) (*http.Response, []byte, error) {
	token, err := httpsink.ReadToken(s.cfg.APITokenFile)
	if err != nil {
		return nil, nil, err
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, content)
	if err != nil {
		// It would name the URL.
		return nil, nil, sinks.ItemError(errors.New("a URL that no request can carry"))
	}
	req.Header.Set("Fastly-Key", token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "walpurge")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if soft {
		req.Header.Set("Fastly-Soft-Purge", "1")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		s.log.Debug("fastly refused", "status", resp.StatusCode, "answer", strings.ReplaceAll(string(raw[:min(len(raw), 500)]), token, "***"))
	}
	return resp, raw, nil
}

// unanswered describes an error of send.
func (s *Sink) unanswered(caller context.Context, err error) error {
	var sent *url.Error
	if class, _ := sinks.ClassOf(err); class == sinks.Transient || errors.As(err, &sent) {
		err = httpsink.Unanswered(caller, err, s.timeout)
	}
	return fmt.Errorf("fastly: %w", err)
}

// Close closes idle connections. Calls that follow fail.
func (s *Sink) Close() {
	s.closed.Store(true)
	s.http.CloseIdleConnections()
}
