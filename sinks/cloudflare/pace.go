package cloudflare

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/walpurge/walpurge/sinks"
)

// pacer slows requests down when the API says that little is left of a limit,
// whichever client used it up: our own buckets know nothing of a dashboard or a script
// that spends from the same account. Being refused costs more than waiting, since
// past the API-wide limit the token is blocked for five minutes.
//
// A short wait is done here; a longer one is handed to the lane as a pause, which
// shows it and can be stopped.
type pacer struct {
	mu    sync.Mutex
	until time.Time
}

const (
	// shortWait is the longest that a call waits by itself.
	shortWait = time.Second
	// longWait bounds what a header can ask for: the API's longest window.
	longWait = 5 * time.Minute
	// fewOf is the share of a limit below which what is left is spread out.
	fewOf = 4
)

// observe reads the two headers of an answer.
func (p *pacer) observe(h http.Header, now time.Time) {
	pause, ok := headerPause(h)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = now.Add(pause)
}

// wait blocks until a request may be sent, or returns the pause.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	left := time.Until(p.until)
	p.mu.Unlock()
	switch {
	case left <= 0:
		return nil
	case left > shortWait:
		return sinks.ThrottledError(errors.New("cloudflare: little is left of the account's request limit, waiting before it is met; lower limits.requests_per_second if it happens often"), left)
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// headerPause is how long to wait before the next request, so that what remains
// lasts until the limit is renewed. Headers look like
//
//	Ratelimit: "default";r=50;t=30
//	Ratelimit-Policy: "default";q=100;w=60
//
// with r requests left for t seconds, of q in w seconds
// (developers.cloudflare.com/fundamentals/api/reference/limits). Of several
// limits the one that asks for the longest pause counts.
func headerPause(h http.Header) (pause time.Duration, ok bool) {
	quotas := map[string]int{}
	anyQuota := 0
	for _, item := range items(h, "Ratelimit-Policy") {
		if q, found := item.number["q"]; found {
			quotas[item.name], anyQuota = q, q
		}
	}
	for _, item := range items(h, "Ratelimit") {
		r, hasR := item.number["r"]
		t, hasT := item.number["t"]
		if !hasR || !hasT {
			continue
		}
		ok = true
		quota, named := quotas[item.name]
		if !named {
			quota = anyQuota
		}
		if r == 0 || r < quota/fewOf {
			pause = max(pause, min(time.Duration(t)*time.Second/time.Duration(r+1), longWait))
		}
	}
	return pause, ok
}

// item is one limit of a header: a quoted name and numbers.
type item struct {
	name   string
	number map[string]int
}

func items(h http.Header, key string) []item {
	var out []item
	for text := range strings.SplitSeq(strings.Join(h.Values(key), ","), ",") {
		name, rest, _ := strings.Cut(text, ";")
		it := item{name: strings.Trim(strings.TrimSpace(name), `"`), number: map[string]int{}}
		for param := range strings.SplitSeq(rest, ";") {
			k, v, _ := strings.Cut(strings.TrimSpace(param), "=")
			if n, err := strconv.ParseUint(v, 10, 31); err == nil {
				it.number[k] = int(n)
			}
		}
		out = append(out, it)
	}
	return out
}
