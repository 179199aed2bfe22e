package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/cache"
	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// body is what a request by that kind holds. Every URL is purged with each combination of the headers.
func body(kind invalidation.Kind, values []string, headers urlvariant.Headers) cache.CachePurgeParamsBodyUnion {
	switch kind {
	case invalidation.URL:
		if files, some := variants(values, headers); some {
			var b cache.CachePurgeParamsBodyCachePurgeSingleFileWithURLAndHeaders
			b.Files.Value, b.Files.Present = files, true
			return b
		}
		var b cache.CachePurgeParamsBodyCachePurgeSingleFile
		b.Files.Value, b.Files.Present = values, true
		return b
	case invalidation.URLPrefix:
		var b cache.CachePurgeParamsBodyCachePurgeFlexPurgeByPrefixes
		b.Prefixes.Value, b.Prefixes.Present = values, true
		return b
	case invalidation.Everything:
		var b cache.CachePurgeParamsBodyCachePurgeEverything
		b.PurgeEverything.Value, b.PurgeEverything.Present = true, true
		return b
	}
	var b cache.CachePurgeParamsBodyCachePurgeFlexPurgeByTags
	b.Tags.Value, b.Tags.Present = values, true
	return b
}

type file = cache.CachePurgeParamsBodyCachePurgeSingleFileWithURLAndHeadersFile

// variants are the URLs with their headers; some is false where none has any.
func variants(values []string, headers urlvariant.Headers) (files []file, some bool) {
	for _, value := range values {
		text, variant, _ := urlvariant.Cut(value) // checked before
		for _, v := range headers.With(variant).Variants() {
			var f file
			f.URL.Value, f.URL.Present = text, true
			maps.DeleteFunc(v, func(_, value string) bool { return value == "" })
			if len(v) > 0 {
				f.Headers.Value, f.Headers.Present, some = v, true, true
			}
			files = append(files, f)
		}
	}
	return files, some
}

// post sends one request and reads the verdict from the answer itself: the SDK
// looks at the status only, and its error type is out of reach and repeats the
// URL and the body. caller is the context of the sink's caller, bounded
// the one that ends with the call's time.
func (s *Sink) post(caller, bounded context.Context, z zone, body cache.CachePurgeParamsBodyUnion) error {
	token, err := httpsink.ReadToken(s.cfg.APITokenFile)
	if err != nil {
		return fmt.Errorf("cloudflare: %w", err)
	}
	if err := s.pace.wait(bounded); err != nil {
		if bounded.Err() != nil {
			return s.Unanswered(caller, err)
		}
		return err
	}
	params := cache.CachePurgeParams{Body: body}
	params.ZoneID.Value, params.ZoneID.Present = z.id, true
	var env cache.CachePurgeResponseEnvelope
	var resp *http.Response
	_, err = s.cache.Purge(bounded, params,
		option.WithAPIToken(token),
		option.WithResponseBodyInto(&env),
		option.WithResponseInto(&resp),
	)
	if caller.Err() != nil && err != nil || resp == nil || errors.Is(err, context.DeadlineExceeded) {
		return s.Unanswered(caller, err)
	}
	a := answer{zone: z.name, status: resp.StatusCode, header: resp.Header, readable: err == nil}
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
	now := time.Now()
	if resp.StatusCode != http.StatusTooManyRequests {
		// A refusal says itself how long to wait.
		s.pace.observe(resp.Header, now)
	}
	return a.verdict(now)
}
