package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A block `publish` that names no channel would publish nothing and say nothing.
func TestPublishNeedsAChannel(t *testing.T) {
	const head = "pipeline: shop\nrules: [rules/*.yaml]\npostgres: {url: \"postgres://app@db/shop\"}\nsinks:\n  cache:\n    "
	const missing = "publish: channel is missing; write publish: {channel: invalidations}, or remove `publish`"
	const empty = "publish.channel: the name is empty; write one such as invalidations, or remove `publish`"
	const valkey = head + "valkey:\n      url: valkey://cache\n      "
	for name, c := range map[string]struct{ text, want string }{
		"no channel":             {valkey + "publish: {}", `8:16: ` + missing},
		"nothing":                {valkey + "publish:", `8:7: ` + missing},
		"null":                   {valkey + "publish: null", `8:7: ` + missing},
		"empty channel":          {valkey + "publish:\n        channel: \"\"", `9:18: ` + empty},
		"channel of nothing":     {valkey + "publish:\n        channel:", `9:9: there is no value here, want a text; write one or remove the key`},
		"empty variable":         {valkey + "publish:\n        channel: ${EMPTY}", `9:18: ` + empty},
		"unset variable":         {valkey + "publish:\n        channel: ${UNSET}", `9:18: the environment variable UNSET is not set (used as ${UNSET})`},
		"a name":                 {valkey + "publish: invalidations", `8:16: "invalidations" is not a mapping of keys to values`},
		"a bool":                 {valkey + "publish: true", `8:16: "true" is not a mapping of keys to values`},
		"a list":                 {valkey + "publish: [invalidations]", `8:16: a list is not a mapping of keys to values`},
		"a list of channels":     {valkey + "publish:\n        channel: [a, b]", `9:18: a list is not a text`},
		"a mapping of channels":  {valkey + "publish:\n        channel: {name: a}", `9:18: a mapping is not a text`},
		"an unknown key":         {valkey + "publish:\n        chanel: a", `9:9: unknown key "chanel"; did you mean "channel"?`},
		"twice":                  {valkey + "publish: {channel: a, channel: b}", `8:29: key "channel" is repeated; it was first given in line 8`},
		"beside the kind":        {head + "valkey: {url: valkey://cache}\n    publish: {channel: a}", `7:5: unknown key "publish"`},
		"at Varnish":             {head + "varnish: {nodes: [\"http://a\"], publish: {channel: a}}", `6:36: unknown key "publish"`},
		"at Varnish, no channel": {head + "varnish: {nodes: [\"http://a\"], publish: {}}", `6:36: unknown key "publish"`},
		"at Cloudflare":          {head + "cloudflare: {zone_id: 023e105f4ecef8ad9ca31a8372d0c353, publish: {channel: a}}", `6:61: unknown key "publish"`},
		"at Fastly":              {head + "fastly: {service_id: a, publish: {channel: a}}", `6:29: unknown key "publish"`},
		"at CloudFront":          {head + "cloudfront: {distribution_id: E2EXAMPLE1234, publish: {channel: a}}", `6:50: unknown key "publish"`},
		"at a webhook":           {head + "webhook: {url: \"http://a\", publish: {channel: a}}", `6:32: unknown key "publish"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := loadText(t, c.text, false)
			require.ErrorContains(t, err, c.want)
		})
	}
	require.NoError(t, loadText(t, valkey+"publish: {channel: invalidations}", false))
	require.NoError(t, loadText(t, valkey+"publish: {channel: 7}", false))
	require.NoError(t, loadText(t, valkey+"publish: {channel: \" \"}", false), "any text is a channel")
	require.NoError(t, loadText(t, valkey+"publish: {channel: \"${UNSET}\"}", true), "its value is not known offline")
	require.ErrorContains(t, loadText(t, valkey+"publish: {}", true), missing)

	// Editors say the same.
	s := compiledSchema(t)
	for _, publish := range []string{"{}", "", "null", `{channel: ""}`, "invalidations", "true", "[a]", "{channel: [a]}", "{chanel: a}"} {
		require.Error(t, validate(s, []byte(valkey+"publish: "+publish)), publish)
	}
	for _, publish := range []string{"{channel: invalidations}", `{channel: "${CHANNEL}"}`, "{channel: 7}"} {
		require.NoError(t, validate(s, []byte(valkey+"publish: "+publish)), publish)
	}
}

func loadText(t *testing.T, text string, offline bool) error {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "rules"), os.DirFS("testdata/rules")))
	file := filepath.Join(dir, "walpurge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o600))
	_, err := Load(file, Options{Offline: offline, Env: func(name string) (string, bool) { return "", name == "EMPTY" }})
	return err
}
