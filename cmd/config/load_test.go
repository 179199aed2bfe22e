package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks/cloudflare"
	"github.com/walpurge/walpurge/sinks/valkey"
)

// env is what variables tests have.
func env(name string) (string, bool) {
	v, ok := map[string]string{"DATABASE_URL": "postgres://app:s3cret@db/shop", "HOST": "cache.internal"}[name]
	return v, ok
}

// Every bad file holds one mistake, and the message that it must bring in its
// first line.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 40)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			first, _, _ := strings.Cut(string(data), "\n")
			_, err = Load(file, Options{Env: env})
			var findings strictyaml.Errors
			require.ErrorAs(t, err, &findings)
			require.Equal(t, strings.TrimPrefix(first, "# want: "), strings.TrimPrefix(err.Error(), file+":"))
		})
	}
}

func load(t *testing.T, file string) *Config {
	t.Helper()
	cfg, err := Load(file, Options{Env: env})
	require.NoError(t, err)
	return cfg
}

func TestDefaults(t *testing.T) {
	cfg := load(t, "testdata/good/small.yaml")
	require.Equal(t, "shop", cfg.Pipeline)
	require.Equal(t, []string{"testdata/rules/shop.yaml"}, cfg.Rules)
	require.Equal(t, "/var/lib/walpurge", cfg.DataDir)
	require.Equal(t, postgres.Config{
		URL: "postgres://app@db/shop", Slot: "walpurge_shop", Publication: "walpurge_shop", Manage: true, Failover: true, Streaming: true, Heartbeat: 10 * time.Second,
	}, cfg.Postgres)
	require.True(t, cfg.Visible)
	require.False(t, cfg.StopOnGap)
	require.True(t, cfg.NATS.Embedded())
	require.Equal(t, 1, cfg.NATS.Replicas)
	require.Equal(t, Stream{MaxAge: 72 * time.Hour, MaxBytes: 2 << 30}, cfg.Stream)
	require.Equal(t, watermark.ConfirmSynced, cfg.Confirm)
	require.Equal(t, HTTP{Listen: "127.0.0.1:7468"}, cfg.HTTP)
	require.Equal(t, Log{}, cfg.Log)
	require.Equal(t, 20*time.Second, cfg.DrainTimeout)
	require.Equal(t, []string{"cache"}, cfg.SinkNames())
	s := cfg.Sinks[0]
	require.Equal(t, "valkey", s.Kind())
	require.Equal(t, 30*time.Second, s.MaxWait)
	require.False(t, s.Shadow)
	require.Equal(t, s.Config.(*valkey.Config).Kinds(), s.Takes)
	require.Empty(t, s.Flush)
	require.Equal(t, []rules.SinkSpec{{Name: "cache", RawTags: true, Takes: s.Takes, Hints: s.Hints}}, cfg.Specs())
}

func TestEverythingSaid(t *testing.T) {
	cfg := load(t, "testdata/good/full.yaml")
	require.Equal(t, []string{"testdata/rules/shop.yaml"}, cfg.Rules, "each file once")
	require.Equal(t, postgres.Config{
		URL: "postgres://app:s3cret@db/shop", Slot: "my_slot", Publication: "my_publication", Heartbeat: time.Minute, ColumnLists: true,
	}, cfg.Postgres)
	require.False(t, cfg.Visible)
	require.True(t, cfg.StopOnGap)
	require.Equal(t, NATS{
		URL: "nats://a:4222,nats://b:4222", Credentials: "/run/nats.creds", Replicas: 5,
		CAFile: "ca.pem", CertFile: "cert.pem", KeyFile: "key.pem",
	}, cfg.NATS)
	require.Equal(t, Stream{MaxAge: 24 * time.Hour, MaxBytes: 64 << 20}, cfg.Stream)
	require.Equal(t, watermark.ConfirmSettled, cfg.Confirm)
	require.Equal(t, Log{Level: slog.LevelDebug, JSON: true}, cfg.Log)
	require.Equal(t, 5*time.Second, cfg.DrainTimeout)
	require.Equal(t, []string{"cache", "edge"}, cfg.SinkNames(), "what another waits for goes first")
	cache, edge := cfg.Sinks[0], cfg.Sinks[1]
	require.Equal(t, "valkeys://cache.internal:6379/0", cache.Config.(*valkey.Config).URL)
	require.Equal(t, "sentinel shop", cache.Config.(*valkey.Config).Mode+" "+cache.Config.(*valkey.Config).SentinelMaster)
	require.Equal(t, []valkey.TagSet{{Layout: "set", Key: "tag:{tag}"}, {Layout: "laravel"}}, cache.Config.(*valkey.Config).TagSets)
	require.Equal(t, valkey.TLSConfig{CAFile: "ca.pem", CertFile: "cert.pem", KeyFile: "key.pem", ServerName: "cache.test"}, cache.Config.(*valkey.Config).TLS)
	require.True(t, cache.Config.(*valkey.Config).Scan.Enabled)
	require.Equal(t, []invalidation.Invalidation{
		{Kind: invalidation.KeyPattern, Value: "product:*", Rule: "flush"}, {Kind: invalidation.KeyPattern, Value: "menu:*", Rule: "flush"},
		{Kind: invalidation.Tag, Value: "all", Rule: "flush"}, {Kind: invalidation.Generation, Value: "catalog", Rule: "flush"},
	}, cache.Flush)
	require.Equal(t, "cloudflare", edge.Kind())
	require.Equal(t, []string{"cache"}, edge.After)
	require.Equal(t, 5*time.Second, edge.MaxWait)
	require.True(t, edge.Shadow)
	require.Equal(t, "main", edge.Config.(*cloudflare.Config).Budget.Account)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.Everything), edge.Takes, "and whatever a flush needs")
	require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Everything, Rule: "flush"}}, edge.Flush)
}

func TestConfirmFollowsTheStream(t *testing.T) {
	l := &loader{}
	none := strictyaml.Text{}
	require.Equal(t, watermark.ConfirmSynced, l.confirm(none, NATS{Replicas: 1}))
	require.Equal(t, watermark.ConfirmPublished, l.confirm(none, NATS{URL: "nats://a", Replicas: 3}))
	require.Equal(t, watermark.ConfirmSettled, l.confirm(none, NATS{URL: "nats://a", Replicas: 2}))
	require.Equal(t, watermark.ConfirmSettled, l.confirm(strictyaml.NewText("purged", strictyaml.Pos{}), NATS{Replicas: 1}))
}

func TestAllMistakesAreToldTogether(t *testing.T) {
	_, err := parse("dir/walpurge.yaml", []byte("pipelin: shop\nstream: {max_bytes: lots}\nlog: {level: loud}\n"), Options{Env: env})
	require.EqualError(t, err, `dir/walpurge.yaml:1:1: unknown key "pipelin"; did you mean "pipeline"?
dir/walpurge.yaml:2:21: "lots" is not a size; write it like 64MiB, 20GB or 4096
dir/walpurge.yaml:3:14: log.level: "loud"; write one of info, debug, warn, error`)
}

func TestOfflineNeedsNoVariablesAndNoSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "walpurge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
pipeline: shop
rules: [walpurge.yaml]
postgres: {url: "${DB}", password_file: /nowhere/secret}
sinks:
  cache: {valkey: {url: "${CACHE}"}}
  edge: {cloudflare: {zone_id: "${ZONE}", api_token_file: /nowhere/token, base_url: "${BASE}"}}
`), 0o600))
	none := func(string) (string, bool) { return "", false }
	_, err := Load(file, Options{Env: none, Offline: true})
	require.NoError(t, err)
	_, err = Load(file, Options{Env: none})
	for _, name := range []string{"DB", "CACHE", "ZONE", "BASE"} {
		require.ErrorContains(t, err, "environment variable "+name+" is not set")
	}
}

func TestAdvertise(t *testing.T) {
	read := func(value string, opts Options) (*Config, error) {
		return parse("testdata/good/small.yaml", []byte(`
pipeline: shop
rules: [small.yaml]
postgres: {url: "postgres://db/shop"}
sinks: {cache: {valkey: {url: "valkey://c"}}}
http: {advertise: "`+value+`"}
`), opts)
	}
	for value, want := range map[string]string{
		"10.0.0.7:7468": "10.0.0.7:7468", "walpurge-0.walpurge.shop.svc:7468": "walpurge-0.walpurge.shop.svc:7468", "[fd00::7]:7468": "[fd00::7]:7468",
		"[10.0.0.7]:7468": "10.0.0.7:7468", "https://walpurge.example": "https://walpurge.example", "http://[fd00::7]:80": "http://[fd00::7]:80",
		"127.0.0.1:7468": "127.0.0.1:7468",
	} {
		cfg, err := read(value, Options{Env: env})
		require.NoError(t, err, value)
		require.Equal(t, want, cfg.HTTP.Advertise)
	}
	for _, value := range []string{
		"", "walpurge", ":7468", "10.0.0.7", "10.0.0.7:", "10.0.0.7:0", "0.0.0.0:7468", "[::]:7468", "fd00::7:7468", "[fe80::1%eth0]:7468", "10.0.0.7:http",
		"ftp://walpurge.example", "https://", "https://:443", "https://user:hunter2@walpurge.example", "https://walpurge.example/path", "http://0.0.0.0:7468",
		"a:1,b:2", "a b:1", "hunter2@walpurge:7468", strings.Repeat("a", 300) + ":7468",
	} {
		_, err := read(value, Options{Env: env})
		require.ErrorContains(t, err, "http.advertise: write the HOST:PORT", value)
		require.NotContains(t, err.Error(), "hunter2")
	}
	cfg, err := read("[${POD_IP}]:7468", Options{Env: func(string) (string, bool) { return "", false }, Offline: true})
	require.NoError(t, err)
	require.Equal(t, "[${POD_IP}]:7468", cfg.HTTP.Advertise)
}

// Only an offline check may overlook what looks like a variable.
func TestALiteralDollarIsNoVariable(t *testing.T) {
	cfg, err := parse("testdata/good/small.yaml", []byte(`
pipeline: shop
rules: [small.yaml]
postgres: {url: "postgres://app:a$${b}@db/shop"}
sinks: {cache: {valkey: {url: "valkey://c"}}}
`), Options{Env: env})
	require.NoError(t, err)
	require.Equal(t, "postgres://app:a${b}@db/shop", cfg.Postgres.URL)
	_, err = parse("testdata/good/small.yaml", []byte(`
pipeline: shop
rules: [small.yaml]
postgres: {url: "postgres://db:$${port}/shop"}
sinks: {cache: {valkey: {url: "valkey://c"}}}
`), Options{Env: env})
	require.ErrorContains(t, err, "postgres.url")
}

func TestAFileThatIsNotThere(t *testing.T) {
	_, err := Load("testdata/none.yaml", Options{Env: env})
	require.ErrorContains(t, err, "testdata/none.yaml")
	require.ErrorContains(t, err, "name the file with -c")
}

// Whatever is wrong with a file: what a variable holds is never in the message.
func TestSecretsAreNeverInErrors(t *testing.T) {
	const secret = "hunter2hunter2"
	withSecret := func(string) (string, bool) { return secret, true }
	places := []string{"pipeline", "rules", "data_dir", "postgres.url", "postgres.url_in_url", "slot", "on_gap", "nats", "confirm", "max_bytes", "heartbeat",
		"valkey.url", "valkey.url_in_url", "valkey.mode", "valkey.key", "after", "takes", "mode", "zone_id", "base_url", "plan", "listen", "advertise", "level"}
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]string{
			"pipeline": "shop", "rules": "small.yaml", "data_dir": "/d", "postgres.url": "postgres://db", "slot": "s", "on_gap": "flush", "nats": "nats://a",
			"confirm": "synced", "max_bytes": "1GiB", "heartbeat": "1s", "valkey.url": "valkey://c", "valkey.mode": "auto", "valkey.key": "t:{tag}", "after": "cache", "takes": "tags", "mode": "purge",
			"zone_id": strings.Repeat("0", 32), "base_url": "https://b", "plan": "pro", "listen": "127.0.0.1:1", "advertise": "a:1", "level": "info", "extra": "",
		}
		for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(places), 1, 4, rapid.ID[string]).Draw(t, "places") {
			v[p] = "${SECRET}"
			if kind, ok := strings.CutSuffix(p, "_in_url"); ok {
				host := rapid.SampledFrom([]string{"@db/shop", "@db:port/shop", "@[/", "@db/shop?sslmode=maybe", ""}).Draw(t, "rest")
				v[kind] = map[string]string{"postgres.url": "postgres", "valkey.url": "valkey"}[kind] + "://app:${SECRET}" + host
			}
		}
		if rapid.Bool().Draw(t, "another mistake") {
			v["extra"] = "unknown: ${SECRET}"
		}
		text := strings.NewReplacer(flat(v)...).Replace(`
pipeline: "<pipeline>"
rules: ["<rules>"]
data_dir: "<data_dir>"
postgres: {url: "<postgres.url>", slot: "<slot>", on_gap: "<on_gap>", heartbeat: "<heartbeat>"}
nats: {url: "<nats>"}
stream: {confirm: "<confirm>", max_bytes: "<max_bytes>"}
sinks:
  cache: {valkey: {url: "<valkey.url>", mode: "<valkey.mode>", tag_sets: [{key: "<valkey.key>"}]}}
  edge:
    cloudflare: {zone_id: "<zone_id>", api_token_file: t, base_url: "<base_url>", plan: "<plan>"}
    after: ["<after>"]
    takes: ["<takes>"]
    mode: "<mode>"
http: {listen: "<listen>", advertise: "<advertise>"}
log: {level: "<level>"}
<extra>
`)
		_, err := parse("testdata/good/small.yaml", []byte(text), Options{Env: withSecret})
		if err != nil {
			require.NotContains(t, err.Error(), secret, "%s", text)
		}
	})
}

func flat(m map[string]string) (out []string) {
	for k, v := range m {
		out = append(out, "<"+k+">", v)
	}
	return out
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parse("testdata/good/fuzz.yaml", data, Options{Env: env})
		if err != nil {
			require.NotContains(t, err.Error(), "s3cret")
			return
		}
		require.Regexp(t, pipelineForm, cfg.Pipeline)
		require.NotEmpty(t, cfg.Sinks)
		require.Positive(t, cfg.DrainTimeout)
		for _, s := range cfg.Sinks {
			require.Positive(t, s.MaxWait)
			require.Contains(t, kindNames(), s.Kind())
		}
	})
}

func TestRolloutOfASink(t *testing.T) {
	file := filepath.Join(t.TempDir(), "walpurge.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), "shop.yaml"), nil, 0o600))
	whole := load(t, "testdata/good/small.yaml")
	require.Zero(t, whole.Specs()[0].Withheld)
	text := "pipeline: shop\nrules: [shop.yaml]\npostgres: {url: postgres://db}\nsinks: {cache: {valkey: {url: 'valkey://c'}, rollout: 30}}\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.Equal(t, 70, load(t, file).Specs()[0].Withheld)
}

func TestSentinelTLSIsABoolOrABlock(t *testing.T) {
	for text, want := range map[string]*valkey.SentinelTLS{
		"": nil, ", sentinel_tls: false": {}, ", sentinel_tls: true": {Enabled: true},
		", sentinel_tls: {ca_file: ca.pem}": {Enabled: true, TLSConfig: valkey.TLSConfig{CAFile: "ca.pem"}},
	} {
		cfg, err := parse("walpurge.yaml", []byte("pipeline: shop\nrules: [none.yaml]\npostgres: {url: postgres://h/d}\nsinks: {cache: {valkey: {url: 'valkey://a', sentinel_master: m"+text+"}}}\n"),
			Options{WithoutRules: true})
		require.NoError(t, err, text)
		require.Equal(t, want, cfg.Sinks[0].Config.(*valkey.Config).SentinelTLS)
	}
	_, err := parse("walpurge.yaml", []byte("sinks: {cache: {valkey: {url: 'valkey://a', sentinel_master: m, sentinel_tls: maybe}}}\n"), Options{WithoutRules: true})
	require.ErrorContains(t, err, `"maybe" is not a bool`)
	_, err = parse("walpurge.yaml", []byte("sinks: {cache: {valkey: {url: 'valkey://a', sentinel_master: m, sentinel_tls: {ca_fil: x}}}}\n"), Options{WithoutRules: true})
	require.ErrorContains(t, err, `unknown key "ca_fil"`)
}
