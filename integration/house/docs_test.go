package house

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/cli"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/rulestest"
)

func TestLinks(t *testing.T) {
	of := map[string][]string{} // the anchors of the documents that are linked
	for _, name := range files(t, ".md") {
		text := read(t, name)
		_, prose := blocks(text)
		for _, m := range linkForm.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			linked := name
			if target != "" {
				linked = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(top, linked)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if anchor == "" {
				continue
			}
			if _, known := of[linked]; !known {
				of[linked] = anchors(read(t, linked))
			}
			if !slices.Contains(of[linked], anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], linked)
			}
		}
	}
}

// Every YAML block is a file that the daemon would take: one with a pipeline is
// a configuration, one with tables a lock file, any other one a rules file.
func TestYAMLBlocks(t *testing.T) {
	sinks := []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPattern)},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything)},
	}
	// The language is larger than what the sinks take so far.
	every := []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPrefix, invalidation.Generation, invalidation.Field, invalidation.KeyPattern)},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything)},
	}
	seen := 0
	for _, name := range files(t, ".md") {
		takers := sinks
		if name == "docs/rules.md" || name == "docs/sinks/valkey.md" {
			takers = every
		}
		found, _ := blocks(read(t, name))
		rulesBefore, lockBefore := "", ""
		for _, b := range found {
			if b.lang != "yaml" {
				continue
			}
			seen++
			var err error
			switch {
			case strings.Contains("\n"+b.text, "\npipeline:"):
				_, err = load(t, b.text)
			case strings.Contains("\n"+b.text, "\ntests:"):
				err = runRuleTests(t, rulesBefore, lockBefore, b.text)
			case strings.Contains("\n"+b.text, "\ntables:"):
				lockBefore = b.text
				_, err = rules.ParseCatalog("block", []byte(b.text))
			default:
				rulesBefore = b.text
				_, err = rules.Parse("block", []byte(b.text), rules.Options{Sinks: takers})
			}
			if err != nil {
				t.Errorf("%s:%d: the YAML is refused:\n%v", name, b.line, err)
			}
		}
	}
	require.Greater(t, seen, 4)
}

// runRuleTests runs a rule test file of a document against the rules in the block
// before it, which it calls shop.yaml, and the lock file in the one before that.
func runRuleTests(t *testing.T, rulesFile, lock, text string) error {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, rules.LockFile), []byte(lock), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(rulesFile), 0o600))
	// A test file may lie in a directory beside that of the rules.
	for _, d := range []string{"rules", "tests"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules", "shop.yaml"), []byte(rulesFile), 0o600))
	file := filepath.Join(dir, "rules_test.yaml")
	if strings.Contains(text, "../rules/") {
		file = filepath.Join(dir, "tests", "rules_test.yaml")
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	s, err := rulestest.Load(file, rulestest.Options{})
	if err != nil {
		return err
	}
	for _, r := range s.Run() {
		if !r.Passed() {
			err = errors.Join(err, fmt.Errorf("test %q fails:\n%s", r.Name, strings.Join(r.Diff, "\n")))
		}
	}
	return err
}

// load reads a configuration as the daemon would, with every variable set and a
// rules file in its place.
func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "rules"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules", "shop.yaml"), []byte("rules: []\n"), 0o600))
	file := filepath.Join(dir, "walpurge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	env := map[string]string{"DATABASE_URL": "postgres://walpurge@db/shop", "VALKEY_URL": "valkey://cache", "WEBHOOK_TOKEN": "t"}
	return config.Load(file, config.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
}

// known are programs that documents may call beside ours.
var known = []string{"valkey-cli", "git", "cd", "curl", "docker", "psql", "kill", "export", "ls", "df", "tail", "go", "mkdir", "sudo", "env", "sed", "cp", "k6"}

// Commands in documents exist: ours are asked for their help, and flags must be
// in it; make's targets are in the Makefile.
func TestCommands(t *testing.T) {
	seen := 0
	for _, name := range files(t, ".md") {
		found, prose := blocks(read(t, name))
		var lines []string
		for _, b := range found {
			if b.lang != "sh" {
				continue
			}
			for line := range strings.SplitSeq(strings.ReplaceAll(b.text, "\\\n", " "), "\n") {
				words := strings.Fields(line)
				if len(words) == 0 || words[0] == "#" {
					continue
				}
				if first := path.Base(words[0]); first != "walpurge" && first != "make" && !slices.Contains(known, first) && !slices.Contains(installers, first) {
					t.Errorf("%s:%d: %q calls %s; check it, and add it to the known programs", name, b.line, line, first)
				}
				lines = append(lines, line)
			}
		}
		for _, code := range spans(prose) {
			if strings.HasPrefix(code, "walpurge ") || strings.HasPrefix(code, "make ") {
				lines = append(lines, code)
			}
		}
		for _, line := range lines {
			seen += call(t, name, line)
		}
	}
	require.Greater(t, seen, 20)
}

var callForm = regexp.MustCompile(`(?:^|[ /])(walpurge|make) ([^#|>&;]*)`)

// call checks what a line calls, and returns the number of calls.
func call(t *testing.T, where, line string) int {
	t.Helper()
	found := callForm.FindAllStringSubmatch(line, -1)
	for _, m := range found {
		words := strings.Fields(m[2])
		switch {
		case len(words) == 0:
		case m[1] == "make":
			targets := read(t, "Makefile")
			for _, w := range words {
				if !strings.Contains(w, "=") && !strings.Contains(targets, "\n"+w+":") {
					t.Errorf("%s: `%s`: the Makefile has no target %q", where, line, w)
				}
			}
		case !strings.HasPrefix(words[0], "-") && strings.Contains(line, "docker compose") && slices.Contains([]string{"psql", "sh"}, words[0]):
		default:
			ours(t, where, line, words)
		}
	}
	return len(found)
}

// ours checks a call of our own program.
func ours(t *testing.T, where, line string, words []string) {
	t.Helper()
	name := words[:1]
	if words[0] == "rules" && len(words) > 1 { // the one with commands of its own
		name = words[:2]
	}
	command := strings.Join(name, " ")
	var out, errs bytes.Buffer
	code := cli.Main(append(slices.Clone(name), "--help"), "test", strings.NewReader(""), &out, &errs)
	if code != 0 || !strings.Contains(out.String(), "\n  walpurge "+command+" ") {
		t.Errorf("%s: `%s`: there is no command %q: %s", where, line, command, errs.String())
		return
	}
	for _, w := range words[len(name):] {
		flag, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(flag, "-") && !regexp.MustCompile(`(^|[ ,])`+regexp.QuoteMeta(flag)+`([ ,=]|$)`).MatchString(out.String()) {
			t.Errorf("%s: `%s`: `walpurge %s` has no flag %s", where, line, command, flag)
		}
	}
}

// A path in backticks that looks like one of ours exists.
func TestNamedPathsExist(t *testing.T) {
	form := regexp.MustCompile(`^(cmd|cdc|router|sinks|rules|deploy|integration|docs|\.ci)/[\w./-]*\w$`)
	for _, name := range files(t, ".md") {
		_, prose := blocks(read(t, name))
		for _, word := range spans(prose) {
			if !form.MatchString(word) || strings.HasPrefix(word, "rules/") && strings.HasSuffix(word, ".yaml") {
				continue
			}
			if _, err := os.Stat(filepath.Join(top, word)); err != nil {
				t.Errorf("%s names %s, which does not exist", name, word)
			}
		}
	}
}
