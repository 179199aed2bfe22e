package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cmd/config"
)

// hostileName has a line break and what a terminal takes for commands, as a name in a file or of a file may.
const hostileName = "x\nFORGED \x1b[31m\u009b2J\u202e\u2066\b"

// controls are the characters of hostileName that no output has.
const controls = "\x1b\u009b\u202e\u2066\b"

// forged is a line that begins as the name would have it.
var forged = regexp.MustCompile(`(?m)^(walpurge: |time=\S+ )?\s*FORGED`)

// TestHostileNames puts a hostile name in the place of every word of the files, one after the other, and of the files' own names. No
// command prints a line that the name has made, or a character that is a command to a terminal.
func TestHostileNames(t *testing.T) {
	files := map[string]string{
		"walpurge.yaml": "pipeline: shop\nrules: [shop.yaml]\npostgres: {url: 'postgres://h/d', slot: s, publication: p, on_gap: flush}\n" +
			"sinks: {cache: {valkey: {url: 'valkey://h', key_prefix: a, tag_sets: [{layout: set, key: 'tag:{tag}'}], publish: {channel: c}}, formerly: old, takes: [keys]},\n" +
			"  hook: {webhook: {url: 'https://h/', headers: {X-Name: v}, json: tags, hmac_file: f}, after: [cache], flush: {tags: [all]}}}\nretired: [gone]\nhttp: {listen: '127.0.0.1:1', token_file: f}\nlog: {level: info}\n",
		"shop.yaml": "vars: {locales: [en]}\nrules: [{name: product, table: public.products, ops: [insert], when: row.name == row.slug, keys: ['p:{id}'], tags: ['t-{name}'], sinks: [cache],\n" +
			"  to: {cache: {keys: ['q:{slug}']}}, unknown: {keys: [all]}, collapse: [{over: 5, keys: [many]}], on_truncate: {keys: [gone]}, lookup: {m: {sql: 'SELECT a FROM b WHERE c = $1', args: ['{id}']}}}]\n",
		"shop_test.yaml": "rules: [shop.yaml]\ntests: [{name: one, table: public.products, update: {old: {id: 1, name: a}, new: {id: 1, name: b, slug: b}}, expect: {keys: ['p:1']}}]\n",
	}
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	run := func(what string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		Main(args, "test", strings.NewReader(""), &out, &errs)
		text := out.String() + errs.String()
		assert.False(t, forged.MatchString(text), "%s: %v:\n%s", what, args, text)
		require.False(t, strings.ContainsAny(text, controls), "%s: %v: %q", what, args, text)
	}
	const quoted = `"x\nFORGED \x1b[31m\x9b2J\u202e\u2066\b"`
	word := regexp.MustCompile(`'[^']*'|[A-Za-z_$.][\w.$-]*`)
	for name, text := range files {
		for other, usual := range files {
			write(other, usual)
		}
		for _, at := range word.FindAllStringIndex(text, -1) {
			write(name, text[:at[0]]+quoted+text[at[1]:])
			what := name + " " + text[at[0]:at[1]]
			if name == "walpurge.yaml" || name == "shop.yaml" {
				run(what, "check", "--offline", "-c", "walpurge.yaml")
			}
			if name != "walpurge.yaml" {
				run(what, "rules", "test", "shop_test.yaml")
			}
		}
		write(name, text)
		write(hostileName, text+"\nnosuch: 1\n")
		run("the name of "+name, "check", "--offline", "-c", hostileName)
		run("the name of "+name, "rules", "test", hostileName)
	}
	for _, args := range [][]string{
		{"rules", "explain", "-c", "walpurge.yaml", "--change", hostileName}, {"rules", "explain", "-c", "walpurge.yaml", "--change", `{"table":` + strings.ReplaceAll(quoted, `\x`, `\u00`) + `, "delete": {"id": 1}}`},
		{"rules", "test", hostileName + "/none"}, {"run", "-c", hostileName + "/none"}, {hostileName}, {"status", "--addr", hostileName}, {"status", "--" + hostileName}, {"wait", hostileName, "--addr", "127.0.0.1:1"},
		{"purge", "--addr", "127.0.0.1:1", "--sink", hostileName, "--key", "a"}, {"warm", "-c", "walpurge.yaml", "--urls", hostileName}, {"schema", hostileName},
		{"status", "--addr", "127.0.0.1:1", "--token-file", hostileName},
	} {
		run("an argument", args...)
	}
}

// TestHostileNamesInTheLog, in both formats.
func TestHostileNamesInTheLog(t *testing.T) {
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		log, _ := newLogger(display.Writer(&out), config.Log{JSON: json})
		log.With("sink", hostileName).Warn(hostileName, "table", hostileName, "err", &exitError{err: os.ErrNotExist}, hostileName, "key", "group", slog.GroupValue(slog.String(hostileName, hostileName)))
		require.Equal(t, 1, strings.Count(out.String(), "\n"), "one line: %q", out.String())
		require.False(t, strings.ContainsAny(out.String(), controls), "%q", out.String())
	}
}
