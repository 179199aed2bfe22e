//go:build full

package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// framework is a program of testdata/recipes, which fills a cache by a framework's own code and says which of its
// entries are still there.
type framework struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// startFramework installs what the programs need, in the versions of their lock file, and starts one of them.
func (r *rig) startFramework(program string) *framework {
	r.t.Helper()
	dir := r.path("frameworks")
	require.NoError(r.t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "recipes"))))
	npm := exec.CommandContext(r.t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	cmd := exec.CommandContext(r.t.Context(), "node", program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "CACHE_URL=redis://"+r.vk.Addr())
	f := &framework{t: r.t}
	f.in, err = cmd.StdinPipe()
	require.NoError(r.t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(r.t, err)
	f.out = bufio.NewScanner(stdout)
	require.NoError(r.t, cmd.Start())
	r.t.Cleanup(func() { require.NoError(r.t, f.in.Close()); _ = cmd.Wait() })
	return f
}

// ask has the program do something, and returns the entries that it names.
func (f *framework) ask(what string) (entries []string) {
	f.t.Helper()
	_, err := io.WriteString(f.in, what+"\n")
	require.NoError(f.t, err)
	require.True(f.t, f.out.Scan(), "the program ended")
	require.NoError(f.t, json.Unmarshal(f.out.Bytes(), &entries))
	return entries
}

// TestRecipesWithTheirFrameworks: what NestJS and GraphQL Yoga cache is gone after a change of its row by the rules of
// their recipes, and what else they cache stays.
func TestRecipesWithTheirFrameworks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		recipe, program, tags string
		filled, left          []string
	}{
		{"nestjs", "nestjs.mjs", "", []string{"product:7", "product:8", "/products/7", "/products?page=2"}, []string{"product:8"}},
		{"yoga", "yoga.mjs", `tag_sets: [{layout: set, key: "{tag}"}], `, []string{"seven", "eight", "all"}, []string{"eight"}},
	} {
		t.Run(c.recipe, func(t *testing.T) {
			t.Parallel()
			rules, err := os.ReadFile(filepath.Join("..", "docs", "recipes", c.recipe, "rules.yaml"))
			require.NoError(t, err)
			r := newRig(t, rigOptions{catalog: string(rules)})
			r.exec("INSERT INTO products (id, slug) VALUES (7, 'a'), (8, 'b')")
			addr := freeAddr(t)
			r.config(addr)
			r.edit("walpurge.yaml", "valkey: {url:", "valkey: {"+c.tags+"url:", "  edge:\n", "    flush: {key_patterns: ['*']}\n  edge:\n")
			d := r.spawn(addr, r.path("walpurge.yaml"), nil)
			d.untilStreaming()
			f := r.startFramework(c.program)
			f.ask("fill")
			require.ElementsMatch(t, c.filled, f.ask("hits"))
			r.exec("UPDATE products SET name = 'b' WHERE id = 7")
			d.wait(r.lsn(), 60*time.Second)
			require.ElementsMatch(t, c.left, f.ask("hits"))
			d.term()
		})
	}
}
