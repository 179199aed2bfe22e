package cloudflare

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func startZones(t *testing.T) (*edge, *Sink) {
	e := startEdge(t, "hunter2hunter2")
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hunter2hunter2"), 0o600))
	cfg := DefaultConfig()
	cfg.APITokenFile, cfg.BaseURL = file, e.URL
	cfg.Zones = map[string]string{"shop.example": zoneID, "www.shop.example": otherZone, "shop.de": otherZone}
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return e, s
}

func batchOf(kind invalidation.Kind, vv ...string) []invalidation.Invalidation {
	var out []invalidation.Invalidation
	for _, v := range vv {
		out = append(out, invalidation.Invalidation{Kind: kind, Value: v})
	}
	return out
}

// sent maps zones to the bodies they got since the last call.
func (e *edge) sent() map[string]string {
	zones, bodies := e.purges()
	out := map[string]string{}
	for i, z := range zones {
		out[z] += bodies[i]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests, e.bodies = nil, nil
	return out
}

func TestWhichZoneGetsWhat(t *testing.T) {
	e, s := startZones(t)
	require.NoError(t, s.Purge(t.Context(), tags("a", "b")))
	require.Equal(t, map[string]string{zoneID: `{"tags":["a","b"]}`, otherZone: `{"tags":["a","b"]}`}, e.sent())
	require.NoError(t, s.Purge(t.Context(), batchOf(invalidation.Everything, "")))
	require.Equal(t, map[string]string{zoneID: `{"purge_everything":true}`, otherZone: `{"purge_everything":true}`}, e.sent())
	require.NoError(t, s.Purge(t.Context(), batchOf(invalidation.URL,
		"https://shop.example/1", "https://WWW.Shop.Example:8443/2", "http://m.shop.example/3", "https://a.www.shop.example/4", "https://shop.de/5")))
	require.Equal(t, map[string]string{
		zoneID:    `{"files":["https://shop.example/1","http://m.shop.example/3"]}`,
		otherZone: `{"files":["https://WWW.Shop.Example:8443/2","https://a.www.shop.example/4","https://shop.de/5"]}`,
	}, e.sent())
	require.NoError(t, s.Purge(t.Context(), batchOf(invalidation.URLPrefix, "www.shop.example/m/1/")))
	require.Equal(t, map[string]string{otherZone: `{"prefixes":["www.shop.example/m/1/"]}`}, e.sent(), "a zone with nothing gets no request")
}

func TestURLWithoutAZoneIsRefusedAlone(t *testing.T) {
	e, s := startZones(t)
	for _, kind := range []invalidation.Kind{invalidation.URL, invalidation.URLPrefix} {
		scheme := map[invalidation.Kind]string{invalidation.URL: "https://"}[kind]
		err := s.Purge(t.Context(), batchOf(kind, scheme+"shop.example/1", scheme+"notshop.example/2", scheme+"example/3", scheme+"shop.de/4"))
		var be *sinks.BatchError
		require.ErrorAs(t, err, &be)
		require.Equal(t, []int{1, 2}, slices.Sorted(maps.Keys(be.Failed)))
		require.ErrorContains(t, err, "in none of the zones")
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Item, class)
		require.Len(t, e.sent(), 2)
	}
}

// One zone that fails must neither stop the others nor have anything given up.
func TestAZoneThatFails(t *testing.T) {
	e, s := startZones(t)
	urls := batchOf(invalidation.URL, "https://shop.example/1", "https://shop.de/2", "https://shop.example/3")
	for status, want := range map[int]sinks.Class{403: sinks.Lane, 500: sinks.Transient, 429: sinks.Throttled} {
		e.mu.Lock()
		e.broken = map[string]int{zoneID: status}
		e.mu.Unlock()
		err := s.Purge(t.Context(), tags("a"))
		class, _ := sinks.ClassOf(err)
		require.Equal(t, want, class)
		require.ErrorContains(t, err, "zone of shop.example")
		err = s.Purge(t.Context(), urls)
		class, _ = sinks.ClassOf(err)
		require.Equal(t, want, class)
		if status == 429 {
			continue // the other zone may not have been asked any more
		}
		var be *sinks.BatchError
		require.ErrorAs(t, err, &be)
		require.Equal(t, []int{0, 2}, slices.Sorted(maps.Keys(be.Failed)))
	}
	e.sent()

	// The API says that one of two is unfit, not which: the lane splits.
	e.mu.Lock()
	e.broken = map[string]int{zoneID: 400}
	e.mu.Unlock()
	var be *sinks.BatchError
	err := s.Purge(t.Context(), urls)
	require.False(t, errors.As(err, &be))
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Item, class)
	require.ErrorAs(t, s.Purge(t.Context(), urls[:2]), &be)
	require.Equal(t, []int{0}, slices.Sorted(maps.Keys(be.Failed)))

	// What one zone refuses must wait while another might take it.
	e.mu.Lock()
	e.broken = map[string]int{zoneID: 400, otherZone: 403}
	e.mu.Unlock()
	class, _ = sinks.ClassOf(s.Purge(t.Context(), tags("a")))
	require.Equal(t, sinks.Lane, class)
	class, _ = sinks.ClassOf(s.Purge(t.Context(), urls[:2]))
	require.Equal(t, sinks.Lane, class)
}

func TestCheckAsksForTheTokenAndEveryZone(t *testing.T) {
	e, s := startZones(t)
	require.NoError(t, s.Check(t.Context()))
	require.Len(t, e.sent(), 2)
	set := func(status string, broken map[string]int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.status, e.broken = status, broken
	}
	set("", nil)
	require.NoError(t, s.Check(t.Context()), "a token of an account is unknown to verify, and good")
	set("expired", nil)
	require.ErrorContains(t, s.Check(t.Context()), "the token is expired")
	set("active", map[string]int{zoneID: 403})
	err := s.Check(t.Context())
	require.ErrorContains(t, err, "zone of shop.example: HTTP 403, code 10000: the token is refused")
	require.Equal(t, 1, strings.Count(err.Error(), "zone of"))
	require.NotContains(t, err.Error(), "hunter2")
}

func TestValuesThatCloudflareCannotTake(t *testing.T) {
	c := valid()
	for v, ok := range map[string]bool{
		"https://shop.example/p/a?b=c": true, "http://shop.example": true, "https://shop.example/%2A": true,
		"": false, "/p": false, "shop.example/p": false, "ftp://shop.example/": false, "https:///p": false, "https:shop.example": false,
		"https://shop.example/#a": false, "https://shop.example/#": false, "https://shop.example/*": false, "https://a@shop.example/": false,
		"https://shop.example/a b": false, "https://shop.example/ü": false, "https://shop.example/%zz": false, "https://shop.example/" + strings.Repeat("a", maxURL): false,
	} {
		require.Equal(t, ok, c.Accepts(invalidation.Invalidation{Kind: invalidation.URL, Value: v}) == nil, "%q", v)
	}
	for v, ok := range map[string]bool{
		"shop.example": true, "shop.example/": true, "shop.example/a/b": true, "shop.example" + strings.Repeat("/a", 31): true,
		"": false, "/a": false, "https://shop.example/": false, "shop.example/a?b": false, "shop.example/a#b": false, "shop.example/*": false,
		"a@shop.example/": false, "shop.example/a b": false, "shop.example" + strings.Repeat("/a", 32): false, "shop.example/ü": false,
	} {
		require.Equal(t, ok, c.Accepts(invalidation.Invalidation{Kind: invalidation.URLPrefix, Value: v}) == nil, "%q", v)
	}
	require.Error(t, c.Accepts(invalidation.Invalidation{Kind: invalidation.Key, Value: "a"}))
	require.True(t, c.HasZone("anything.example"))
}
