package app

import (
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/cloudflare"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/fastly"
	"github.com/walpurge/walpurge/sinks/httpsink"
	"github.com/walpurge/walpurge/sinks/valkey"
	"github.com/walpurge/walpurge/sinks/varnish"
	"github.com/walpurge/walpurge/sinks/webhook"
)

const catalog = `rules:
  - name: product
    table: public.products
    keys: ["product:{id}", "fixed"]
    sinks: [cache]
`

func TestFlushPlan(t *testing.T) {
	keys := invalidation.Kinds(invalidation.Key, invalidation.KeyPattern)
	cfg := &config.Config{File: "walpurge.yaml", Sinks: []config.Sink{
		{Name: "cache", Takes: keys},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.Everything), Pos: strictyaml.Pos{Line: 7, Column: 3}},
	}}
	set, err := rules.Parse("rules.yaml", []byte(catalog), rules.Options{Sinks: cfg.Specs()})
	require.NoError(t, err)

	plan, err := flushPlan(cfg, set, 0)
	require.NoError(t, err)
	require.ElementsMatch(t, []invalidation.Invalidation{
		{Kind: invalidation.KeyPattern, Value: "product:*", Rule: "flush"}, {Kind: invalidation.KeyPattern, Value: "fixed", Rule: "flush"},
	}, plan)

	_, err = flushPlan(cfg, set, 1)
	require.EqualError(t, err, "walpurge.yaml:7:3: sink edge cannot be flushed after a gap: add flush: {everything: true}, or flush: {tags: [...]} with a tag that every object carries")

	said := []invalidation.Invalidation{{Kind: invalidation.Everything, Rule: "flush"}}
	cfg.Sinks[1].Flush = said
	plan, err = flushPlan(cfg, set, 1)
	require.NoError(t, err)
	require.Equal(t, said, plan)
}

// Every kind of sink that a file can have can be opened, or says what its settings lack.
func TestEveryKindOfSinkIsMade(t *testing.T) {
	for _, c := range config.Kinds() {
		made, err := newTarget(config.Sink{Name: "new", Config: c}, nil, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "sink new: "+c.Kind()+": ")
		require.Nil(t, made.Sink)
	}
}

func TestReloadableNamesWhatNeedsARestart(t *testing.T) {
	old := &config.Config{File: "walpurge.yaml", Rules: []string{"a"}, DataDir: "x", Sinks: []config.Sink{{Name: "cache"}}}
	next := *old
	next.Rules = []string{"a", "b"}
	next.Log.JSON = true
	next.Sinks = []config.Sink{{Name: "cache", Pos: strictyaml.Pos{Line: 9}}}
	more, err := reloadable(old, &next)
	require.NoError(t, err)
	require.False(t, more, "rules alone")
	next.Sinks = []config.Sink{{Name: "cache", MaxWait: time.Second}}
	more, err = reloadable(old, &next)
	require.NoError(t, err)
	require.True(t, more)
	next.DataDir = "y"
	_, err = reloadable(old, &next)
	require.EqualError(t, err, "walpurge.yaml: `data_dir` changed, and that needs a restart; a reload takes rules, sinks, stream, drain_timeout and the log level")
}

// Which keys have a tag is not in the rules, so a flush cannot be derived.
func TestFlushPlanOfTagSets(t *testing.T) {
	cfg := &config.Config{File: "walpurge.yaml", Sinks: []config.Sink{
		{Name: "cache", Config: &valkey.Config{}, Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag, invalidation.KeyPattern)},
	}}
	set, err := rules.Parse("rules.yaml", []byte(catalog+"    tags: [\"p-{id}\"]\n"), rules.Options{Sinks: cfg.Specs()})
	require.NoError(t, err)
	_, err = flushPlan(cfg, set, 0)
	require.ErrorContains(t, err, "only the cache knows which keys have a tag; add flush: {key_patterns")
	cfg.Sinks[0].Flush = []invalidation.Invalidation{{Kind: invalidation.KeyPattern, Value: "product:*"}}
	_, err = flushPlan(cfg, set, 0)
	require.NoError(t, err)
}

// A check asks for the permissions of what the rules and the flush need.
func TestUsedKinds(t *testing.T) {
	s := config.Sink{Config: &valkey.Config{}}
	generations := invalidation.Kinds(invalidation.Generation)
	require.Equal(t, generations, used(s, generations, []invalidation.Invalidation{{Kind: invalidation.Generation}}).Config.(*valkey.Config).Uses)
	require.Equal(t, invalidation.Kinds(invalidation.Key, invalidation.KeyPattern), used(s, invalidation.Kinds(invalidation.Key), nil).Config.(*valkey.Config).Uses)
	require.Zero(t, s.Config.(*valkey.Config).Uses, "what the daemon runs is left alone")
}

// Large transactions need room, which a directory for temporary files may lack.
func TestSpoolLiesInDataDir(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	for data, want := range map[string]string{dir: filepath.Join(dir, "spool"), blocked: os.TempDir(), filepath.Join(dir, "absent"): os.TempDir()} {
		require.Equal(t, want, spoolDir(&config.Config{DataDir: data, NATS: config.NATS{URL: "nats://127.0.0.1:1"}}))
	}
}

// A certificate of a private authority blocks the lane until the file of the authority is named.
func TestPrivateAuthorities(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	dir := t.TempDir()
	ca, token, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token"), filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(token, []byte("hunter2"), 0o600))
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for kind, sink := range map[string]func(url string, tls httpsink.TLS) config.Sink{
		"webhook": func(url string, tls httpsink.TLS) config.Sink {
			c := webhook.DefaultConfig()
			c.URL, c.TLS = url, tls
			return config.Sink{Config: &c}
		},
		"varnish": func(url string, tls httpsink.TLS) config.Sink {
			c := varnish.DefaultConfig()
			c.Nodes, c.TLS = []string{url}, tls
			return config.Sink{Config: &c}
		},
		"fastly": func(url string, tls httpsink.TLS) config.Sink {
			c := fastly.DefaultConfig()
			c.ServiceID, c.APITokenFile, c.BaseURL, c.TLS = "service", token, url, tls
			return config.Sink{Config: &c}
		},
		"cloudflare": func(url string, tls httpsink.TLS) config.Sink {
			c := cloudflare.DefaultConfig()
			c.ZoneID, c.APITokenFile, c.BaseURL, c.TLS = strings.Repeat("0", 32), token, url, tls
			return config.Sink{Config: &c}
		},
		"cloudfront": func(url string, tls httpsink.TLS) config.Sink {
			c := cloudfront.DefaultConfig()
			c.DistributionID, c.BaseURL, c.TLS = "EXAMPLE0000", url, tls
			return config.Sink{Config: &c}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			purge := func(url, caFile string) (string, sinks.Class) {
				s := sink(url, httpsink.TLS{CAFile: caFile})
				s.Name = kind
				target, err := newTarget(s, nil, slog.New(slog.DiscardHandler))
				require.NoError(t, err)
				defer target.Close()
				err = target.Sink.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.URL, Value: "https://shop.example/hidden"}})
				require.Error(t, err)
				var be *sinks.BatchError
				if errors.As(err, &be) {
					err = be.Failed[0]
				}
				class, _ := sinks.ClassOf(err)
				require.NotContains(t, err.Error(), "hidden")
				require.NotContains(t, err.Error(), "hunter2")
				return err.Error(), class
			}
			for caFile, says := range map[string]string{
				"":                           "set tls.ca_file to the certificate of its authority",
				filepath.Join(dir, "absent"): "tls.ca_file: open",
				empty:                        "holds no certificate in PEM",
			} {
				text, class := purge(server.URL, caFile)
				require.Contains(t, text, says)
				require.Equal(t, sinks.Lane, class, text)
			}
			text, _ := purge(server.URL, ca)
			require.NotContains(t, text, "tls.ca_file")
			require.NotContains(t, text, "no answer")
			text, class := purge(strings.Replace(server.URL, "127.0.0.1", "localhost", 1), ca)
			require.Contains(t, text, "the host in the URL must be one of its names")
			require.Equal(t, sinks.Lane, class)
		})
	}
}
