package valkey

import (
	"log/slog"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string]endpoint{
		"valkey://127.0.0.1:6379/0":            {network: "tcp", addrs: []string{"127.0.0.1:6379"}},
		"redis://cache":                        {network: "tcp", addrs: []string{"cache:6379"}},
		"VALKEY://cache/":                      {network: "tcp", addrs: []string{"cache:6379"}},
		"rediss://cache:7000/3":                {network: "tcp", tls: true, addrs: []string{"cache:7000"}, database: 3},
		"valkeys://[::1]:7000":                 {network: "tcp", tls: true, addrs: []string{"[::1]:7000"}},
		"valkey://[fe80::1]/2":                 {network: "tcp", addrs: []string{"[fe80::1]:6379"}, database: 2},
		"valkey://a:7000,b,[::1]:7002/0":       {network: "tcp", addrs: []string{"a:7000", "b:6379", "[::1]:7002"}},
		"valkey://u:p%40ss%2F@a:1/0":           {network: "tcp", username: "u", password: "p@ss/", addrs: []string{"a:1"}},
		"redis://:only@a":                      {network: "tcp", password: "only", addrs: []string{"a:6379"}},
		"redis://u:a@b@host":                   {network: "tcp", username: "u", password: "a@b", addrs: []string{"host:6379"}},
		"unix:///run/valkey/server.sock":       {network: "unix", addrs: []string{"/run/valkey/server.sock"}},
		"unix:///run/valkey%20x/s.sock?db=4":   {network: "unix", addrs: []string{"/run/valkey x/s.sock"}, database: 4},
		"unix://user:pw@/run/valkey/server.so": {network: "unix", username: "user", password: "pw", addrs: []string{"/run/valkey/server.so"}},
	} {
		got, err := parseURL(url)
		require.NoError(t, err, url)
		require.Equal(t, want, got, url)
	}
}

func TestURLErrorsSayWhatToWriteAndRepeatNothing(t *testing.T) {
	for url, says := range map[string]string{
		"":                                  "no scheme",
		"127.0.0.1:6379":                    "no scheme",
		"hunter2hunter2@cache":              "no scheme",
		"http://u:hunter2@cache":            "unknown scheme",
		"valkey://":                         "host 1 is not host or host:port",
		"valkey://a,,b":                     "host 2 is not",
		"valkey://u:hunter2/x@cache":        "host 1 is not",
		"valkey://a:hunter2":                "host 1 is not",
		"valkey://a:0":                      "host 1 is not",
		"valkey://a:70000":                  "host 1 is not",
		"valkey://::1:6379":                 "host 1 is not",
		"valkey://u:hun%zzter2@cache":       "bad % escape",
		"valkey://u:hunter2#x@cache":        "# has no meaning",
		"valkey://cache/hunter2":            "not a number from 0",
		"valkey://cache/-1":                 "not a number from 0",
		"valkey://cache/0/1":                "not a number from 0",
		"valkey://cache?password=hunter2":   "only parameter",
		"valkey://cache?db=1":               "only parameter",
		"unix://run/valkey.sock":            "absolute path",
		"unix:///":                          "absolute path",
		"unix:///run/%zz":                   "bad % escape",
		"unix:///run/s.sock?db=hunter2":     "not a number from 0",
		"unix:///run/s.sock?secret=hunter2": "only parameter",
	} {
		cfg := DefaultConfig()
		cfg.URL = url
		err := cfg.Validate()
		require.ErrorContains(t, err, says, url)
		require.ErrorContains(t, err, "url: ", url)
		require.NotContains(t, err.Error(), "hunter2", url)
		_, err = New(cfg, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, says, url)
	}
}

func TestConfigFromYAML(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
url: valkey://127.0.0.1:6379/0
username: walpurge
password_file: /run/secrets/valkey
key_prefix: ":1:"
scan: {enabled: true}
`), &cfg, yaml.Strict()))
	require.Equal(t, Config{
		URL: "valkey://127.0.0.1:6379/0", Username: "walpurge", PasswordFile: "/run/secrets/valkey", KeyPrefix: ":1:",
		Scan: ScanConfig{Enabled: true, KeysPerSecond: 50000},
	}, cfg)
	require.NoError(t, cfg.Validate())
	require.Equal(t, rules.Kinds(rules.Key, rules.KeyPattern, rules.Generation, rules.KeyPrefix), cfg.Kinds())
	require.False(t, cfg.Limits().OneKind)
	require.Zero(t, cfg.Limits().PerSecond)
}

func TestValidateNamesTheKey(t *testing.T) {
	cfg := Config{URL: "valkey://u:hunter2@a", Username: "v", PasswordFile: "/f"}
	err := cfg.Validate()
	require.ErrorContains(t, err, "username: ")
	require.ErrorContains(t, err, "password_file: ")
	require.ErrorContains(t, err, "scan.keys_per_second: 0; write a number from 1")
	require.NotContains(t, err.Error(), "hunter2")
}
