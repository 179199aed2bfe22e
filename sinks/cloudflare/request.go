package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/cache"
	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/walpurge/walpurge/sinks"
)

// maxBody bounds what is read of an answer; a real one has some hundred bytes.
const maxBody = 1 << 20

func httpClient() *http.Client {
	return &http.Client{
		// A redirect would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: limited{&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConns:        2,
			IdleConnTimeout:     90 * time.Second,
		}},
	}
}

// limited cuts answers off; the SDK reads them whole.
type limited struct{ *http.Transport }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}

func (s *Sink) postTags(ctx context.Context, tags []string) error {
	var body cache.CachePurgeParamsBodyCachePurgeFlexPurgeByTags
	body.Tags.Value, body.Tags.Present = tags, true
	return s.post(ctx, body)
}

// post sends one request and reads the verdict from the answer itself: the SDK
// looks at the status only, and its error type is out of reach and repeats the
// URL and the body.
func (s *Sink) post(ctx context.Context, body cache.CachePurgeParamsBodyUnion) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	params := cache.CachePurgeParams{Body: body}
	params.ZoneID.Value, params.ZoneID.Present = s.cfg.ZoneID, true
	var env cache.CachePurgeResponseEnvelope
	var resp *http.Response
	_, err = s.cache.Purge(ctx, params,
		option.WithAPIToken(token),
		option.WithResponseBodyInto(&env),
		option.WithResponseInto(&resp),
	)
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("cloudflare: purge stopped: %w", ctx.Err())
	case resp == nil, errors.Is(err, context.DeadlineExceeded):
		return s.unanswered(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, readable: err == nil}
	if resp.StatusCode >= http.StatusBadRequest {
		// The SDK has put the body back.
		raw, rerr := io.ReadAll(resp.Body)
		a.readable = rerr == nil && json.Unmarshal(raw, &env) == nil
	}
	a.success = env.Success
	for _, e := range env.Errors[:min(len(env.Errors), maxCodes)] {
		a.codes = append(a.codes, e.Code)
		s.log.Debug("cloudflare refused", "status", a.status, "code", e.Code, "message", strings.ReplaceAll(e.Message, token, "***"))
	}
	return a.verdict(time.Now())
}

func (s *Sink) unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("cloudflare: no answer within %s: %w", s.timeout, err)
	}
	// The outer error names the URL.
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("cloudflare: no answer: %w", err)
}

// token reads the token file, so that a rotated token needs no restart.
func (s *Sink) token() (string, error) {
	b, err := os.ReadFile(s.cfg.APITokenFile)
	if err != nil {
		return "", sinks.LaneError(fmt.Errorf("cloudflare: api_token_file: %w; make it readable for this process", err))
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", sinks.LaneError(errors.New("cloudflare: api_token_file is empty; write the token into it"))
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", sinks.LaneError(errors.New("cloudflare: api_token_file holds more than a token; write one line with the token and nothing else"))
		}
	}
	return token, nil
}
