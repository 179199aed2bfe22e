//go:build browser

package admin

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// hostile is what a row or a provider may hold.
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`

// scene is a daemon as the page sees it. Each status is three seconds later than
// the one before, so that minutes pass while a test looks.
type scene struct {
	hand
	mu     sync.Mutex
	n      int
	bad    bool
	down   bool // the database is out of sight
	paused bool
	parked []Parked
	// problems are those of the status.
	problems []map[string]any
	// suspicions are those of the status.
	suspicions []map[string]any
	posted     []any
}

func (s *scene) status(context.Context) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	type m = map[string]any
	started := time.Now().Add(-50 * time.Hour)
	n, wave := float64(s.n), math.Sin(float64(s.n)/6)
	lag := [2]float64{0.4 + wave/8, 0.7 + wave/5}
	doc := m{
		"summary": "FRESH: every sink within 0.8 s", "fresh": true, "pipeline": "shop", "version": "v1.0.0",
		"started": started.Truncate(time.Hour), "at": time.Now().Add(time.Duration(s.n-200) * 3 * time.Second),
		"reader":  m{"state": "streaming", "since": started.Truncate(time.Hour)},
		"slot":    m{"name": "walpurge_shop", "state": "reserved", "retained_bytes": 48 << 20, "safe_bytes": 976 << 20},
		"stream":  m{"bytes": 310 << 20, "limit_bytes": 2 << 30, "messages": 182211, "replay_horizon_seconds": 86400.0},
		"changes": n * 1260 * 3, "incidents": []m{},
		"rules": []m{
			{"name": "product", "of": "public.products", "matches": 81223.0, "invalidations": 402112.0, "unknown": 0.0, "errors": 0.0},
			{"name": "menu", "of": "public.menu_items", "matches": 1201.0, "invalidations": 1201.0, "unknown": 17.0, "errors": 0.0},
			{"name": "by-hand", "of": "cache.purge", "matches": 4.0, "invalidations": 9.0, "unknown": 0.0, "errors": 1.0},
		},
	}
	states, errs, behind, backlog := [2]string{"ok", "ok"}, [2]string{}, [2]int{0, 3120}, [2]int{0, 2}
	if s.bad {
		lag[1] = 250 + n*3
		states, errs = [2]string{"ok", "throttled"}, [2]string{"", "HTTP 429: " + hostile}
		behind, backlog = [2]int{3120, 190 << 20}, [2]int{1, 18200}
		doc["fresh"], doc["summary"] = false, "STALE 4m10s at edge: throttled: HTTP 429: "+hostile+", 18200 messages waiting"
		doc["incidents"] = []m{
			{"at": started, "kind": "gap", "reason": "stream_behind"}, {"at": started, "kind": "flush", "sink": "cache", "reason": "stream_behind"},
		}
	}
	if s.paused {
		states[0] = "paused"
	}
	mark := func(stage, target string, bytes int, lag float64) m {
		return m{"stage": stage, "target": target, "lsn": fmt.Sprintf("16/B374%04X", 9000-bytes%9000), "timeline": 1, "lag_bytes": bytes, "lag_seconds": lag}
	}
	marks := []m{mark("received", "", 0, 0.1), mark("published", "", 900, 0.2), mark("synced", "", 2048, 0.3), mark("confirmed", "", 2048, 0.3)}
	var sinks []m
	for i, name := range []string{"cache", "edge"} {
		marks = append(marks, mark("purged", name, behind[i], lag[i]), mark("settled", name, behind[i], lag[i]))
		parked := 0
		if i == 1 {
			parked = len(s.parked)
		}
		sinks = append(sinks, m{
			"name": name, "kind": []string{"valkey", "cloudflare"}[i], "state": states[i], "error": errs[i], "backlog": backlog[i], "parked": parked, "lag_seconds": lag[i],
			"work": m{"purged": n * float64(2900-900*i) * 3, "failed": 0, "latency_count": s.n * 100, "latency_seconds": n * 100 * (0.0021 + 0.04*float64(i))},
		})
	}
	doc["watermarks"], doc["sinks"] = marks, sinks
	doc["suspicions"] = s.suspicions
	if doc["problems"] = s.problems; s.problems == nil {
		doc["problems"] = []m{}
	}
	if s.down {
		doc["fresh"], doc["summary"] = false, "NOT STREAMING since 2026-11-20T12:00:00Z, connecting: connection refused. Try: walpurge check"
		doc["reader"] = m{"state": "connecting", "since": started.Truncate(time.Hour), "error": "connection refused"}
		for _, mark := range marks {
			mark["lag_bytes"] = nil
		}
	}
	return doc
}

func (s *scene) Pause(_ context.Context, sink string, paused bool, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused, s.posted = paused, append(s.posted, fmt.Sprint(sink, " ", paused))
	return nil
}

func (s *scene) Parked(context.Context, string, int) ([]Parked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Parked{}, s.parked...), nil
}

func (s *scene) Unpark(_ context.Context, r UnparkRequest) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posted, s.parked = append(s.posted, r), s.parked[:len(s.parked)-1]
	return 1, nil
}

func (s *scene) explain(_ context.Context, change []byte) (any, error) {
	type m = map[string]any
	if string(change) == hostile {
		return nil, &BadRequestError{Err: fmt.Errorf("change:1:1: %s is not a change", hostile)}
	}
	return []m{{
		"rule": "product", "file": "rules/catalog.yaml", "line": 8, "matched": true, "why": "the condition holds for the new row",
		"tried":     []m{{"image": "new", "result": "true", "terms": []m{{"source": "changed(name)", "result": "true", "columns": []m{{"image": "new", "column": "name", "state": "value", "value": hostile}}}}}},
		"templates": []m{{"kind": "key", "template": "product:{id}", "sinks": []string{"cache"}, "image": "new", "values": []string{"product:7"}, "unknown": false}},
		"purges":    []m{{"sink": "cache", "kind": "key", "value": "product:7"}, {"sink": "edge", "kind": "tag", "value": hostile}},
	}}, nil
}

func (s *scene) did() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]any{}, s.posted...)
}

func (s *scene) turn(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// open shows the page of a daemon in this condition; its token is open-sesame.
func open(t *testing.T, s *scene) (ctx context.Context, stop func()) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("open-sesame\n"), 0o600))
	cfg := (&daemon{token: token}).server().cfg
	cfg.Status, cfg.Hand, cfg.Explain = s.status, s, s.explain
	server := New(cfg)
	server.watchers.every = 20 * time.Millisecond
	url, stop := run(t, server)
	ctx = browser(t)
	screens[0].look(t, ctx)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	until(t, ctx, `document.getElementById("feed").dataset.feed === "live"`)
	return ctx, stop
}
