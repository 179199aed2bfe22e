package valkey

import (
	"log/slog"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
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
	require.Equal(t, invalidation.Kinds(invalidation.Key, invalidation.Field, invalidation.KeyPattern, invalidation.Generation, invalidation.KeyPrefix), cfg.Kinds())
	require.False(t, cfg.Limits().OneKind)
}

func TestValidateNamesTheKey(t *testing.T) {
	cfg := Config{URL: "valkey://u:hunter2@a", Username: "v", PasswordFile: "/f"}
	err := cfg.Validate()
	require.ErrorContains(t, err, "username: ")
	require.ErrorContains(t, err, "password_file: ")
	require.ErrorContains(t, err, "scan.keys_per_second: 0; write a number from 1")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		url, mode, master string
		want, says        string
	}{
		{url: "valkey://a", want: auto},
		{url: "valkey://a", mode: "auto", want: auto},
		{url: "valkey://a,b", want: cluster},
		{url: "valkey://a", mode: "cluster", want: cluster},
		{url: "valkey://a", master: "shop", want: sentinel},
		{url: "valkey://a,b/3", mode: "sentinel", master: "shop", want: sentinel},
		{url: "unix:///s", mode: "standalone", want: standalone},
		{url: "valkey://a", mode: "master", says: "mode: no such mode; write one of auto, standalone, cluster, sentinel"},
		{url: "valkey://a", mode: "sentinel", says: "sentinel_master is missing"},
		{url: "valkey://a", mode: "cluster", master: "shop", says: "sentinel_master: mode is cluster"},
		{url: "valkey://a,b", mode: "standalone", says: "there are several hosts"},
		{url: "valkey://a,b/1", says: "a cluster has only database 0"},
		{url: "unix:///s", master: "shop", says: "sentinels are reached by host and port"},
	} {
		cfg := DefaultConfig()
		cfg.URL, cfg.Mode, cfg.SentinelMaster = c.url, c.mode, c.master
		if c.says != "" {
			require.ErrorContains(t, cfg.Validate(), c.says)
			continue
		}
		require.NoError(t, cfg.Validate(), "%+v", c)
		require.Equal(t, c.want, cfg.mode(), "%+v", c)
	}
	cfg := Config{URL: "valkey://a,b:1", SentinelMaster: "shop"}
	ep, err := cfg.endpoint()
	require.NoError(t, err)
	require.Equal(t, []string{"a:26379", "b:1"}, ep.addrs, "the port of sentinels")
}

func TestKindsAndHints(t *testing.T) {
	cfg := DefaultConfig()
	require.Equal(t, invalidation.Kinds(invalidation.Key, invalidation.Field, invalidation.KeyPattern, invalidation.Generation), cfg.Kinds())
	require.Contains(t, cfg.Hints()[invalidation.KeyPrefix], "scan: {enabled: true}")
	require.Contains(t, cfg.Hints()[invalidation.Tag], "tag_sets")
	cfg.Scan.Enabled, cfg.TagSets = true, []TagSet{{Layout: "laravel"}}
	require.Equal(t, invalidation.Kinds(invalidation.Key, invalidation.Field, invalidation.KeyPattern, invalidation.Generation, invalidation.KeyPrefix, invalidation.Tag), cfg.Kinds())
	require.Empty(t, cfg.Hints())
}

func TestValidateTagSetsAndTLS(t *testing.T) {
	cfg := DefaultConfig()
	cfg.URL, cfg.TLS = "valkey://a", TLSConfig{CertFile: "c"}
	cfg.TagSets = []TagSet{{Key: "tag:{tag}"}, {}, {Key: "tag:"}, {Key: "{tag}{tag}"}, {Layout: "django"}, {Layout: "symfony", Key: "x"}}
	require.EqualError(t, cfg.Validate(), `tls: the url asks for a connection without TLS; write valkeys:// in it
tls.key_file is missing; tls.cert_file needs its key
tag_sets[1].key is missing; write the name of a tag's set, such as "tag:{tag}"
tag_sets[2].key: write {tag} in it, once, as in "tag:{tag}"
tag_sets[3].key: write {tag} in it, once, as in "tag:{tag}"
tag_sets[4].layout: no such layout; write set, laravel or symfony
tag_sets[5].key: write {tag} in it, once, as in "tag:{tag}"`)
}
