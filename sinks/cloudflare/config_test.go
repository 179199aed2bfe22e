package cloudflare

import (
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
)

func valid() Config {
	c := DefaultConfig()
	c.ZoneID, c.APITokenFile = zone, "/run/secrets/cloudflare"
	return c
}

func TestConfigFromYAML(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
zone_id: 023e105f4ecef8ad9ca31a8372d0c353
api_token_file: /run/secrets/cloudflare
plan: business
base_url: ""
limits: {requests_per_second: 4, burst: 25, items_per_request: 50, account: main}
`), &cfg, yaml.Strict()))
	require.NoError(t, cfg.Validate())
	require.Equal(t, Budget{RequestsPerSecond: 4, Burst: 25, ItemsPerRequest: 50, Account: "main"}, cfg.Budget)
	require.Equal(t, sinks.Limits{Items: 50, OneKind: true, PerSecond: 4, Burst: 25}, cfg.Limits())
	require.Equal(t, rules.Kinds(rules.Tag, rules.Everything), cfg.Kinds())
}

func TestValidateNamesTheKeyAndRepeatsNothing(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"zone_id: write the zone's id, 32 hex digits": func(c *Config) { c.ZoneID = "hunter2" },
		"zone_id: ":                      func(c *Config) { c.ZoneID = zone + "0" },
		"api_token_file: name a file":    func(c *Config) { c.APITokenFile = "" },
		"plan: write free, pro":          func(c *Config) { c.Plan = "hunter2" },
		"base_url: write an absolute":    func(c *Config) { c.BaseURL = "hunter2.example/%zz" },
		"base_url: no user, password":    func(c *Config) { c.BaseURL = "https://u:hunter2@api.example" },
		"base_url: ":                     func(c *Config) { c.BaseURL = "ftp://hunter2" },
		"limits.requests_per_second: ":   func(c *Config) { c.Budget.RequestsPerSecond = -1 },
		"limits.burst: ":                 func(c *Config) { c.Budget.Burst = -1 },
		"items_per_request: write a num": func(c *Config) { c.Budget.ItemsPerRequest = 101 },
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

// No preset may cross the API-wide limit, whose penalty is five minutes of
// nothing, or what Cloudflare documents for the plan.
func TestPresets(t *testing.T) {
	documented := map[string]sinks.Limits{
		"free": {PerSecond: 5.0 / 60, Burst: 25}, "pro": {PerSecond: 5, Burst: 25},
		"business": {PerSecond: 10, Burst: 50}, "enterprise": {PerSecond: 50, Burst: 500},
	}
	require.Len(t, presets, len(documented))
	for plan, most := range documented {
		c := valid()
		c.Plan = plan
		require.NoError(t, c.Validate())
		l := c.Limits()
		require.Equal(t, 100, l.Items)
		require.True(t, l.OneKind)
		require.Positive(t, l.PerSecond)
		require.LessOrEqual(t, l.PerSecond, most.PerSecond, plan)
		require.LessOrEqual(t, l.Burst, most.Burst, plan)
		require.LessOrEqual(t, float64(l.Burst)+300*l.PerSecond, 1200.0, plan)
	}
	require.Equal(t, 5.0/60, presets["free"].PerSecond)
}
