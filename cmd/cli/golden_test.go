package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/help anew")

// commands are all that can be called, by their names.
func commands(c *cobra.Command, f func(path []string, c *cobra.Command)) {
	var walk func(path []string, c *cobra.Command)
	walk = func(path []string, c *cobra.Command) {
		f(path, c)
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(append(append([]string{}, path...), sub.Name()), sub)
			}
		}
	}
	walk(nil, c)
}

// The help of every command is what testdata/help has; `go test ./cmd/cli -update` writes
// it anew after a change that is meant.
func TestHelp(t *testing.T) {
	want := map[string]bool{}
	commands(Root("test"), func(path []string, _ *cobra.Command) {
		file := filepath.Join("testdata", "help", strings.Join(append([]string{"walpurge"}, path...), "_")+".txt")
		want[file] = true
		var out, errs bytes.Buffer
		require.Zero(t, Main(append(append([]string{}, path...), "--help"), "test", strings.NewReader(""), &out, &errs))
		require.Empty(t, errs.String())
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
		}
		golden, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(golden), out.String(), file)
	})
	files, err := filepath.Glob("testdata/help/*.txt")
	require.NoError(t, err)
	for _, f := range files {
		require.True(t, want[f], "%s is of no command", f)
	}
}

// One name means one thing everywhere, and every command that does something has an
// example.
func TestFlagsAreConsistent(t *testing.T) {
	meaning := map[string]string{}
	commands(Root("test"), func(path []string, c *cobra.Command) {
		if c.HasSubCommands() {
			return
		}
		require.NotEmpty(t, c.Example, "%v has no example", path)
		require.Contains(t, c.Example, "walpurge "+strings.Join(path, " "), "the example of %v", path)
		for _, name := range []string{"config", "addr", "token-file"} {
			f := c.Flags().Lookup(name)
			if f == nil || strings.Join(path, " ") == "rules test" {
				continue
			}
			if meaning[name] == "" {
				meaning[name] = f.Usage
			}
			require.Equal(t, meaning[name], f.Usage, "--%s of %v", name, path)
		}
	})
	require.Len(t, meaning, 3)
}
