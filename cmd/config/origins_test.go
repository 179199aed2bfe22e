package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/varnish"
	"github.com/walpurge/walpurge/sinks/webhook"
)

func TestOrigins(t *testing.T) {
	cfg := load(t, "testdata/good/origins.yaml")
	page, app, cdn := cfg.Sinks[0], cfg.Sinks[1], cfg.Sinks[2]
	require.Equal(t, []string{"varnish", "webhook", "cloudfront"}, []string{page.Kind(), app.Kind(), cdn.Kind()})
	require.Equal(t, &varnish.Config{
		Nodes: []string{"http://10.0.0.5:6081", "dns+http://cache.internal:6081"}, Header: "xkey", Soft: true, Bans: true, Confirm: "Walpurge-Purged",
		Headers: urlvariant.Headers{"X-Device": {"mobile", ""}, "Accept-Language": {"de"}},
	}, page.Config)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything), page.Takes)
	require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Everything, Rule: "flush"}}, page.Flush)
	require.Equal(t, &webhook.Config{
		URL: "https://app.example/purge", Method: "PUT", Headers: map[string]string{"authorization": "Bearer cache.internal"},
		JSON: `{"tags": tags, "expire": 0, "token": "cache.internal"}`, HMACFile: "/run/secrets/webhook", Timeout: 5 * time.Second,
	}, app.Config)
	require.Equal(t, app.Config.(*webhook.Config).Kinds(), app.Takes)
	require.Equal(t, []string{"page"}, app.After)
	require.Equal(t, &cloudfront.Config{DistributionID: "E2EXAMPLE1234", Region: "us-east-1", Tags: true, Hosts: []string{"shop.example"}}, cdn.Config)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URLPrefix, invalidation.Everything), cdn.Takes)
}

func TestOriginsOffline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "walpurge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
pipeline: shop
rules: [walpurge.yaml]
postgres: {url: "${DB}"}
sinks:
  page: {varnish: {nodes: ["${NODE}", "${NODE}"]}}
  app: {webhook: {url: "${URL}", hmac_file: /nowhere/secret, json: '{"token": ${TOKEN}}'}}
  cdn: {cloudfront: {distribution_id: "${ID}", region: "${REGION}", base_url: "${BASE}", hosts: ["${SITE}"]}}
`), 0o600))
	none := func(string) (string, bool) { return "", false }
	_, err := Load(file, Options{Env: none, Offline: true})
	require.NoError(t, err)

	// What a variable holds is never in the message.
	_, err = Load(file, Options{Env: func(string) (string, bool) { return "hunter2hunter2", true }})
	require.ErrorContains(t, err, "webhook.json")
	require.ErrorContains(t, err, "nodes: number 1")
	require.ErrorContains(t, err, "distribution_id")
	require.NotContains(t, err.Error(), "hunter2")
}

// Every kind that takes URL prefixes can be flushed by them.
func TestFlushByPrefix(t *testing.T) {
	cfg := load(t, "testdata/good/prefixes.yaml")
	require.Len(t, cfg.Sinks, 4)
	for _, s := range cfg.Sinks {
		require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.URLPrefix, Value: "shop.example/", Rule: "flush"}}, s.Flush, s.Name)
	}
}
