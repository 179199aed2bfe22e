package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// addresses are the settings that hold an address, with a file that sets it. NAME is replaced by the address.
var addresses = map[string]string{
	"postgres.url":              "pipeline: p\nrules: [r.yaml]\npostgres: {url: NAME}\nsinks: {s: {valkey: {url: 'valkey://h'}}}\n",
	"postgres.replicas":         "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d', replicas: [NAME]}\nsinks: {s: {valkey: {url: 'valkey://h'}}}\n",
	"nats.url":                  "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nnats: {url: NAME}\nsinks: {s: {valkey: {url: 'valkey://h'}}}\n",
	"nats.listen":               "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nnats: {listen: NAME, token_file: t}\nsinks: {s: {valkey: {url: 'valkey://h'}}}\n",
	"http.listen":               "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nhttp: {listen: NAME}\nsinks: {s: {valkey: {url: 'valkey://h'}}}\n",
	"sinks.valkey.url":          "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {valkey: {url: NAME}}}\n",
	"sinks.cloudflare.base_url": "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {cloudflare: {zone_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token_file: t, base_url: NAME}, flush: {everything: true}}}\n",
	"sinks.fastly.base_url":     "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {fastly: {service_id: abc, api_token_file: t, base_url: NAME}, flush: {everything: true}}}\n",
	"sinks.cloudfront.base_url": "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {cloudfront: {distribution_id: E2EXAMPLE1234, base_url: NAME}, flush: {everything: true}}}\n",
	"sinks.varnish.nodes":       "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {varnish: {nodes: [NAME]}, flush: {everything: true}}}\n",
	"sinks.bunny.base_url":      "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {bunny: {pull_zone_id: 1, api_token_file: t, base_url: NAME}, flush: {everything: true}}}\n",
	"sinks.webhook.url":         "pipeline: p\nrules: [r.yaml]\npostgres: {url: 'postgres://h/d'}\nsinks: {s: {webhook: {url: NAME}, flush: {everything: true}}}\n",
}

// addressKeys lists the keys of the file that may hold an address.
func addressKeys(prefix string, t reflect.Type, out *[]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.Contains(t.PkgPath(), "walpurge") {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous, strings.HasSuffix(f.Tag.Get("yaml"), ",inline"):
			addressKeys(prefix, f.Type, out)
			continue
		case name == "" || name == "-":
			continue
		case slices.Contains([]string{"url", "base_url", "nodes", "replicas", "listen", "endpoint", "proxy", "servers", "addr", "address"}, name) && f.Type.Kind() != reflect.Int && !strings.Contains(f.Type.String(), "int"):
			*out = append(*out, prefix+name)
		}
		if name == "sinks" {
			addressKeys("sinks.", reflect.TypeFor[rawSink](), out)
			continue
		}
		addressKeys(prefix+name+".", f.Type, out)
	}
}

// TestNoAddressIsPrintedWithItsSecret: an address that does not parse is quoted whole by the libraries that read it.
func TestNoAddressIsPrintedWithItsSecret(t *testing.T) {
	var keys []string
	addressKeys("", reflect.TypeFor[rawFile](), &keys)
	for _, key := range keys {
		require.Contains(t, addresses, key, "a setting that holds an address: add it to the test")
	}
	require.Greater(t, len(keys), 8)
	for key, text := range addresses {
		for _, broken := range []string{
			"nats://u:hunter2@[::1:4222", "postgres://u:hunter2@h:port/d", "http://u:hunter2@h:port/", "http://u:hunter2@ h/", "valkey://u:hunter2@h:6379/%zz", "://u:hunter2@h",
			"u:hunter2@h:1:2", "http://u:hunter2@h\u007f/", "http://u:hun%zzhunter2@h/", "https://h/?token=hunter2#%zz", "ftp://u:hunter2@h/", "nats://ok:1,nats://u:hunter2@[h", "password=hunter2 host=", "http://[u:hunter2@h]/",
			"http://u:hunter2@h/", "https://u:hunter2@h:99999/", "unix:hunter2\n",
		} {
			_, err := parse("walpurge.yaml", []byte(strings.ReplaceAll(text, "NAME", fmt.Sprintf("%q", broken))), Options{WithoutRules: true, Env: func(string) (string, bool) { return "", false }})
			if err != nil {
				require.NotContains(t, err.Error(), "hunter2", "%s: %s", key, broken)
			}
		}
	}
}
