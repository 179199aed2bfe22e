package fastly

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one service.
type Sink struct {
	*httpsink.Base
	cfg    Config
	base   string
	limits sinks.Limits
	log    *slog.Logger
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("fastly: %w", err)
	}
	base, err := httpsink.BaseURL(cfg.BaseURL, defaultBaseURL, cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("fastly: base_url: %w", err)
	}
	return &Sink{
		Base: httpsink.NewBase("fastly", httpsink.Config{Proxy: true, Idle: atOnce, TLS: cfg.TLS}),
		cfg:  cfg, base: base.String(), limits: cfg.Limits(), log: logger,
	}, nil
}

// Purge sends one request for the whole batch, or one for each URL, and blocks
// until all are answered, at most ten seconds.
//
// Values that Fastly can never take are not sent and come back in a
// *sinks.BatchError, and so do URLs whose requests failed, the others being
// purged. If a request by tag or of everything fails, its error is that of the
// whole batch.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.AdmitOneKind(batch, s.limits); err != nil {
		return err
	}
	send := s.Select(batch, s.cfg.Accepts)
	if len(send.Values) == 0 {
		return send.Refused()
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	kind := batch[0].Kind
	if kind == invalidation.URL {
		return send.Each(atOnce, func(value string) error { return s.purge(ctx, bounded, kind, []string{value}) })
	}
	if err := s.purge(ctx, bounded, kind, send.Values); err != nil {
		return err
	}
	return send.Refused()
}

// purge sends one request; values of everything are without meaning.
func (s *Sink) purge(caller, bounded context.Context, kind invalidation.Kind, values []string) error {
	path, body := "/service/"+s.cfg.ServiceID+"/purge", []byte(nil)
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
		var err error
		if body, err = json.Marshal(map[string][]string{"surrogate_keys": values}); err != nil {
			return fmt.Errorf("fastly: write the body: %w", err)
		}
	}
	resp, err := s.send(caller, bounded, http.MethodPost, path, body, kind != invalidation.Everything && s.cfg.Soft)
	if err != nil {
		return err
	}
	var said map[string]json.RawMessage
	a := answer{kind: kind, status: resp.Status, header: resp.Header, ours: json.Unmarshal(resp.Body, &said) == nil && said != nil}
	if kind == invalidation.Tag {
		a.accepted = len(said) > 0 // an id for each key
	} else {
		a.accepted = string(said["status"]) == `"ok"`
	}
	return a.verdict(time.Now())
}

// send sends one request and reads the whole answer.
func (s *Sink) send(caller, bounded context.Context, method, path string, body []byte, soft bool) (*httpsink.Response, error) {
	r := httpsink.Request{Method: method, URL: s.base + path, TokenFile: s.cfg.APITokenFile, TokenHeader: "Fastly-Key", Body: body}
	if soft {
		r.Header = map[string]string{"Fastly-Soft-Purge": "1"}
	}
	resp, err := s.Send(caller, bounded, r)
	if err == nil && resp.Status >= http.StatusBadRequest {
		s.log.Debug("fastly refused", "status", resp.Status, "answer", resp.Excerpt())
	}
	return resp, err
}
