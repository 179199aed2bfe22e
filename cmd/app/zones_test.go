package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/sinks/cloudflare"
)

// A URL that could only be parked is an error when the files are read.
func TestURLsNeedAZone(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	catalog := write("rules.yaml", `rules:
  - name: page
    table: public.pages
    urls: ["https://www.shop.example/{slug}", "https://shop.de/{slug}"]
    url_prefixes: ["m.shop.example/{slug}/"]
`)
	file := write("walpurge.yaml", `pipeline: shop
rules: [rules.yaml]
postgres: {url: "postgres://db/shop"}
sinks:
  edge:
    cloudflare: {zones: {shop.example: 023e105f4ecef8ad9ca31a8372d0c353}, api_token_file: t}
    flush: {url_prefixes: [shop.example/]}
`)
	cfg, err := config.Load(file, config.Options{})
	require.NoError(t, err)
	_, _, err = loadRules(cfg, nil)
	require.EqualError(t, err, catalog+":4:1: rule \"page\": sink edge has no zone for shop.de; add it to `zones`, or send the rule to other sinks")
	cfg.Sinks[0].Config.(*cloudflare.Config).Zones["shop.de"] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	_, plans, err := loadRules(cfg, nil)
	require.NoError(t, err)
	require.Equal(t, cfg.Sinks[0].Flush, plans[0])
}
