package cloudflare

import (
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func valid() Config {
	c := DefaultConfig()
	c.ZoneID, c.APITokenFile = zoneID, "/run/secrets/cloudflare"
	return c
}

func TestConfigFromYAML(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
zone_id: 023e105f4ecef8ad9ca31a8372d0c353
api_token_file: /run/secrets/cloudflare
plan: business
base_url: ""
limits: {requests_per_second: 4, burst: 25, items_per_request: 50, account: main, api_requests: 2400}
`), &cfg, yaml.Strict()))
	require.NoError(t, cfg.Validate())
	require.Equal(t, Budget{RequestsPerSecond: 4, Burst: 25, ItemsPerRequest: 50, Account: "main", APIRequests: 2400}, cfg.Budget)
	limits := cfg.Limits()
	require.Equal(t, 50, limits.ItemsOf(invalidation.Tag))
	require.Equal(t, 50, limits.ItemsOf(invalidation.URL))
	require.True(t, limits.OneKind)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything), cfg.Kinds())
}

func TestValidateNamesTheKeyAndRepeatsNothing(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"zone_id: write the zone's id, 32 hex digits": func(c *Config) { c.ZoneID = "hunter2" },
		"zone_id: ":                           func(c *Config) { c.ZoneID = zoneID + "0" },
		"api_token_file: name a file":         func(c *Config) { c.APITokenFile = "" },
		"plan: write free, pro":               func(c *Config) { c.Plan = "hunter2" },
		"base_url: write an absolute":         func(c *Config) { c.BaseURL = "hunter2.example/%zz" },
		"base_url: no user, password":         func(c *Config) { c.BaseURL = "https://u:hunter2@api.example" },
		"base_url: ":                          func(c *Config) { c.BaseURL = "ftp://hunter2" },
		"limits.requests_per_second: ":        func(c *Config) { c.Budget.RequestsPerSecond = -1 },
		"limits.burst: ":                      func(c *Config) { c.Budget.Burst = -1 },
		"limits.api_requests: ":               func(c *Config) { c.Budget.APIRequests = 1 },
		"write one of them":                   func(c *Config) { c.Zones = map[string]string{"shop.example": zoneID} },
		`"https://shop.example" is no host`:   func(c *Config) { c.ZoneID, c.Zones = "", map[string]string{"https://shop.example": zoneID} },
		`"*.shop.example" is no host`:         func(c *Config) { c.ZoneID, c.Zones = "", map[string]string{"*.shop.example": zoneID} },
		"zones: shop.de: write the zone's id": func(c *Config) { c.ZoneID, c.Zones = "", map[string]string{"shop.de": "hunter2"} },
		"items_per_request: write a num":      func(c *Config) { c.Budget.ItemsPerRequest = 101 },
	} {
		c := valid()
		require.NoError(t, c.Validate())
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = New(c, nil)
		require.ErrorContains(t, err, says)
	}
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "https://api.cloudflare.com/client/v4",
		"http://127.0.0.1:8787":           "http://127.0.0.1:8787/client/v4",
		"http://127.0.0.1:8787/":          "http://127.0.0.1:8787/client/v4",
		"http://127.0.0.1:8787/client/v4": "http://127.0.0.1:8787/client/v4",
		"https://proxy.example/cf/":       "https://proxy.example/cf",
	} {
		c := valid()
		c.BaseURL = in
		got, err := c.baseURL()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}
