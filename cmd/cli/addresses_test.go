package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const secret = "hunter2"

// addressSettings are the settings that hold an address, with the part of a file that sets it. NAME is replaced by the address.
var addressSettings = map[string]string{
	"postgres.url":                "postgres: {url: NAME}\nsinks: {s: {valkey: {url: 'valkey://127.0.0.1:1'}}}",
	"postgres.replicas":           "postgres: {url: 'postgres://127.0.0.1:1/d', replicas: [NAME]}\nsinks: {s: {valkey: {url: 'valkey://127.0.0.1:1'}}}",
	"nats.url":                    "postgres: {url: 'postgres://127.0.0.1:1/d'}\nnats: {url: NAME}\nsinks: {s: {valkey: {url: 'valkey://127.0.0.1:1'}}}",
	"nats.listen":                 "postgres: {url: 'postgres://127.0.0.1:1/d'}\nnats: {listen: NAME, token_file: t}\nsinks: {s: {valkey: {url: 'valkey://127.0.0.1:1'}}}",
	"http.listen":                 "postgres: {url: 'postgres://127.0.0.1:1/d'}\nhttp: {listen: NAME}\nsinks: {s: {valkey: {url: 'valkey://127.0.0.1:1'}}}",
	"sinks.*.valkey.url":          "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {valkey: {url: NAME}}}",
	"sinks.*.cloudflare.base_url": "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {cloudflare: {zone_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token_file: t, base_url: NAME}, flush: {everything: true}}}",
	"sinks.*.bunny.base_url":      "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {bunny: {pull_zone_id: 1, api_token_file: t, base_url: NAME}, flush: {everything: true}}}",
	"sinks.*.fastly.base_url":     "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {fastly: {service_id: abc, api_token_file: t, base_url: NAME}, flush: {everything: true}}}",
	"sinks.*.cloudfront.base_url": "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {cloudfront: {distribution_id: E2EXAMPLE1234, base_url: NAME}, flush: {everything: true}}}",
	"sinks.*.varnish.nodes":       "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {varnish: {nodes: [NAME]}, flush: {everything: true}}}",
	"sinks.*.webhook.url":         "postgres: {url: 'postgres://127.0.0.1:1/d'}\nsinks: {s: {webhook: {url: NAME}, flush: {everything: true}}}",
}

// secretAddresses hold the secret. Some can be used, and lead nowhere: nothing listens on port 1.
var secretAddresses = []string{
	"nats://u:hunter2@127.0.0.1:1", "nats://hunter2@127.0.0.1:1", "nats://u:hunter2@127.0.0.1:1,nats://u:hunter2@[::1]:1", "u:hunter2@127.0.0.1:1", "ws://u:hunter2@127.0.0.1:1/hunter2",
	"postgres://u:hunter2@127.0.0.1:1/d", "postgres://hunter2:x@127.0.0.1:1/d?sslmode=hunter2", "postgres://127.0.0.1:1/d?user=u&password=hunter2", "postgres://127.0.0.1:1/d?pasword=hunter2",
	"host=127.0.0.1 port=1 user=u password=hunter2", "host=127.0.0.1 port=1 password = 'hunter2 x", "host=127.0.0.1 port=hunter2", "postgres://127.0.0.1:1/d?sslpassword=hunter2&sslcert=/nowhere&sslkey=/nowhere",
	"valkey://u:hunter2@127.0.0.1:1", "valkeys://:hunter2@127.0.0.1:1/0", "unix:///nowhere/valkey.sock?password=hunter2",
	"https://127.0.0.1:1/hunter2?token=hunter2", "http://127.0.0.1:1/?token=hunter2", "https://hunter2@127.0.0.1:1/", "dns+http://u:hunter2@127.0.0.1:1",
	"nats://u:hunter2@[::1:4222", "postgres://u:hunter2@h:port/d", "http://u:hunter2@h:port/", "http://u:hunter2@ h/", "valkey://u:hunter2@127.0.0.1:1/%zz", "://u:hunter2@h",
	"u:hunter2@h:1:2", "http://u:hunter2@h\u007f/", "http://u:hun%zzhunter2@h/", "https://h/?token=hunter2#%zz", "ftp://u:hunter2@h/", "nats://127.0.0.1:1,nats://u:hunter2@[h", "password=hunter2 host=",
	"http://[u:hunter2@h]/", "https://u:hunter2@h:99999/", "unix:hunter2\n", "nats://hunter2#x@127.0.0.1:1", "postgres://u:1/hunter2@127.0.0.1:1/d", "postgres://hunter2#x@127.0.0.1/d", "127.0.0.1:hunter2",
}

// settingsOf lists the settings of the schema of the file, which comes from the types that the file is read into.
func settingsOf(t *testing.T) (names []string) {
	var out, errs bytes.Buffer
	require.Zero(t, Main([]string{"schema", "config"}, "test", strings.NewReader(""), &out, &errs), errs.String())
	var doc map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &doc))
	var walk func(prefix string, node any)
	walk = func(prefix string, node any) {
		m, is := node.(map[string]any)
		if !is {
			return
		}
		if ref, is := m["$ref"].(string); is {
			target := any(doc)
			for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				target = target.(map[string]any)[step]
			}
			walk(prefix, target)
		}
		for name, property := range asMap(m["properties"]) {
			names = append(names, prefix+name)
			walk(prefix+name+".", property)
		}
		walk(prefix+"*.", m["additionalProperties"])
		for _, of := range []string{"oneOf", "anyOf", "allOf"} {
			list, _ := m[of].([]any)
			for _, one := range list {
				walk(prefix, one)
			}
		}
	}
	walk("", doc)
	slices.Sort(names)
	return slices.Compact(names)
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// TestNoAddressIsPrintedWithItsSecret: addresses that cannot be read, and others at which no server answers, hold a secret, and no
// command prints it, whatever setting has it. What a daemon prints that runs is in package integration.
func TestNoAddressIsPrintedWithItsSecret(t *testing.T) {
	for _, key := range settingsOf(t) {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if slices.Contains([]string{"url", "base_url", "nodes", "listen", "endpoint", "proxy", "servers", "addr", "address"}, last) || key == "postgres.replicas" {
			require.Contains(t, addressSettings, key, "a setting that holds an address: add it to the test")
		}
	}
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("r.yaml", "rules: [{name: product, table: public.products, keys: ['product:{id}'], tags: ['p-{id}']}]\n")
	write("t", "token")
	// A daemon that gets as far as its listener ends there.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	go func() {
		for conn, err := taken.Accept(); err == nil; conn, err = taken.Accept() {
			_ = conn.Close()
		}
	}()
	file := func(key, address string) string {
		text := "pipeline: p\nrules: [r.yaml]\ndata_dir: data\n" + strings.ReplaceAll(addressSettings[key], "NAME", fmt.Sprintf("%q", address)) + "\n"
		if key != "http.listen" {
			text += "http: {listen: '" + taken.Addr().String() + "'}\n"
		}
		return text
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	silent := func(what string, args ...string) {
		var out, errs bytes.Buffer
		code := Main(args, "test", strings.NewReader(""), &out, &errs)
		require.NotContains(t, out.String()+errs.String(), secret, "%s: %s", strings.Join(args, " "), what)
		require.NotZero(t, code, "%s: %s", strings.Join(args, " "), what)
	}
	for _, key := range slices.Sorted(maps.Keys(addressSettings)) {
		for _, address := range secretAddresses {
			write("walpurge.yaml", file(key, address))
			silent(key+": "+address, "check", "-c", "walpurge.yaml")
			if key == "postgres.url" {
				for _, command := range []string{"run", "setup", "rules lock"} {
					silent(key+": "+address, append(strings.Fields(command), "-c", "walpurge.yaml")...)
				}
			}
		}
	}
	for _, address := range secretAddresses {
		silent(address, "rules", "init", "--db", address)
		for _, command := range []string{"status", "tail"} {
			silent(address, append(strings.Fields(command), "--addr", address)...)
		}
	}
	// Proxies and the endpoint for traces come from the environment.
	write("walpurge.yaml", file("sinks.*.webhook.url", "https://shop.invalid/hunter2"))
	for _, address := range secretAddresses {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
		silent(address, "run", "-c", "walpurge.yaml")
	}
}
