package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// sameFor is how long a call that failed is recognised by its repetition.
const sameFor = 10 * time.Minute

var _ sinks.Sink = (*Sink)(nil)

// Sink calls one URL.
type Sink struct {
	*httpsink.Base
	cfg  Config
	json *expression // nil for the fixed form
	log  *slog.Logger
	keys *httpsink.Memory[string]
	now  func() time.Time
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	s := &Sink{
		Base: httpsink.NewBase("webhook", httpsink.Config{Proxy: true, Idle: 2, TLS: cfg.TLS}),
		cfg:  cfg, log: logger, now: time.Now, keys: httpsink.NewMemory[string](sameFor),
	}
	s.Timeout = cfg.Timeout
	if cfg.JSON != "" {
		x, found := compile(cfg.JSON)
		if len(found) > 0 {
			return nil, fmt.Errorf("webhook: json: %s", found[0].Text)
		}
		s.json = x
	}
	return s, nil
}

// Purge sends one request for the whole batch and blocks until it is answered,
// at most for the configured timeout.
//
// With a `json:` expression, values that are not UTF-8 have no form and come
// back in a *sinks.BatchError, the others being sent.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.Admit(batch, maxItems); err != nil || len(batch) == 0 {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("webhook: call stopped: %w", err)
	}
	failed := make(map[int]error)
	able := make([]invalidation.Invalidation, 0, len(batch))
	for i, inv := range batch {
		switch {
		case !s.cfg.Kinds().Has(inv.Kind):
			failed[i] = sinks.ItemError(fmt.Errorf("webhook: cannot hand on a %s", inv.Kind))
		case s.json != nil && !utf8.ValidString(inv.Value):
			failed[i] = sinks.ItemError(fmt.Errorf("webhook: a %s that is not UTF-8 has no form in JSON; encode it in the rule, or leave `json` out", inv.Kind))
		default:
			able = append(able, inv)
		}
	}
	if len(able) > 0 {
		if err := s.send(ctx, able); err != nil {
			return err
		}
	}
	return httpsink.Refused(failed)
}

// send makes a body of the batch and posts it.
func (s *Sink) send(ctx context.Context, batch []invalidation.Invalidation) error {
	body, err := s.body(ctx, batch)
	if err != nil {
		return err
	}
	sum := httpsink.SumOf(batch)
	key := s.key(sum)
	existed, err := s.post(ctx, body, key)
	if err == nil && existed >= 0 && s.cfg.Hits != nil {
		httpsink.CountHits(batch, existed, s.cfg.Hits)
	}
	if err == nil && s.cfg.Pages != nil {
		for _, inv := range batch {
			if inv.Kind == invalidation.URL {
				s.cfg.Pages(inv.Value, existed != 0) // which of several existed is not known
			}
		}
	}
	if class, _ := sinks.ClassOf(err); err == nil || class == sinks.Item || ctx.Err() != nil {
		// The lane is done with this call. The next equal one is another change.
		s.keys.Forget(sum)
	}
	return err
}

func (s *Sink) body(ctx context.Context, batch []invalidation.Invalidation) ([]byte, error) {
	if s.json == nil {
		return encode(batch), nil
	}
	body, err := s.json.body(ctx, batch)
	if cause := ctx.Err(); cause != nil {
		return nil, fmt.Errorf("webhook: call stopped: %w", cause)
	}
	if err != nil {
		// A smaller batch may pass: the lane tries halves. An expression that fails for everything is like
		// a service that refuses everything.
		return nil, sinks.RefusalError(fmt.Errorf("webhook: json: %w", err))
	}
	return body, nil
}

// key is the request's idempotency key. A call that failed is repeated under its
// first key. A later call gets another one even if the same values are purged
// again, or a service that looks at keys would drop it, and stay stale.
func (s *Sink) key(sum httpsink.Sum) string {
	now := s.now()
	if key, ok := s.keys.Recall(sum, now); ok {
		return key
	}
	h := sha256.Sum256(strconv.AppendInt(sum[:], now.UnixNano(), 10))
	key := hex.EncodeToString(h[:16])
	s.keys.Remember(sum, key, now)
	return key
}

// existedHeader is the header of an answer that says how many of the values the service had.
const existedHeader = "Walpurge-Existed"

// post sends a body. existed is how many of its values the service had, -1 where it does not say so.
func (s *Sink) post(ctx context.Context, body []byte, key string) (existed int, err error) {
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, s.cfg.Method, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return -1, sinks.LaneError(errors.New("webhook: url or method cannot be used"))
	}
	now := s.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "walpurge")
	for name, value := range s.cfg.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("X-Walpurge-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if s.cfg.HMACFile != "" {
		secret, err := httpsink.ReadSecret(s.cfg.HMACFile)
		if err != nil {
			return -1, sinks.LaneError(fmt.Errorf("webhook: hmac_file: %w", err))
		}
		req.Header.Set("X-Walpurge-Signature", signature(secret, now, body))
	}
	a, err := httpsink.Do(s.HTTP, req)
	if err != nil {
		return -1, fmt.Errorf("webhook: %w", err)
	}
	if err := verdict(a, now); err != nil {
		s.log.Debug("webhook refused", "status", a.Status, "bytes", len(body))
		return -1, err
	}
	if existed, err = strconv.Atoi(a.Header.Get(existedHeader)); err != nil || existed < 0 {
		return -1, nil // it need not say so
	}
	return existed, nil
}

// verdict returns nil for a purge that the service says it has carried out.
func verdict(a httpsink.Answer, now time.Time) error {
	errorf := func(meaning string) error { return fmt.Errorf("webhook: HTTP %d: %s", a.Status, meaning) }
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return sinks.LaneError(errorf("the service refuses us; check headers, hmac_file and the clocks"))
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed:
		return sinks.LaneError(errorf("the service has nothing there; check url and method"))
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return sinks.RefusalError(errorf("the service refuses what the request holds"))
	case http.StatusTooManyRequests:
		return sinks.ThrottledError(errorf("the service asks for a pause"), httpsink.RetryAfter(a.Header, now))
	}
	switch {
	case a.Status >= 200 && a.Status < 300:
		return nil
	case a.Status >= 300 && a.Status < 400:
		return sinks.LaneError(errorf("a redirect, which is not followed; write the final address into url"))
	}
	return errorf("the service is out of order")
}

// Check reports whether the secret can be read and whether a server answers at
// the URL. It sends no batch, since some services take an empty one for
// everything: it asks by OPTIONS, without the configured headers, and takes any
// answer. It blocks like Purge.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	if s.cfg.HMACFile != "" {
		if _, err := httpsink.ReadSecret(s.cfg.HMACFile); err != nil {
			return sinks.LaneError(fmt.Errorf("webhook: hmac_file: %w", err))
		}
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodOptions, s.cfg.URL, nil)
	if err != nil {
		return sinks.LaneError(errors.New("webhook: url cannot be used"))
	}
	if _, err := httpsink.Do(s.HTTP, req); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}
