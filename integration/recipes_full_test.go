//go:build full

package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// install copies a project of testdata and installs what it needs, in the versions of its lock file.
func (r *rig) install(project string) (dir string) {
	r.t.Helper()
	dir = r.path(project)
	require.NoError(r.t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", project))))
	npm := exec.CommandContext(r.t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	return dir
}

// startFramework starts a program of testdata/recipes.
func (r *rig) startFramework(program string) *framework {
	r.t.Helper()
	dir := r.install("recipes")
	cmd := exec.CommandContext(r.t.Context(), "node", program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "CACHE_URL=redis://"+r.vk.Addr())
	f := &framework{t: r.t}
	var err error
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

// nextApp is a Next.js application of testdata, which is built once.
type nextApp struct {
	r   *rig
	dir string
	env []string
}

func (r *rig) buildNext(env ...string) *nextApp {
	r.t.Helper()
	a := &nextApp{r: r, dir: r.install("recipes-next"), env: append(os.Environ(), append(env, "NEXT_TELEMETRY_DISABLED=1")...)}
	out, err := a.next("build").CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	return a
}

func (a *nextApp) next(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(a.r.t.Context(), "node", append([]string{"node_modules/next/dist/bin/next"}, args...)...)
	cmd.Dir, cmd.Env = a.dir, a.env
	return cmd
}

// start starts a server, and returns its address.
func (a *nextApp) start() string {
	a.r.t.Helper()
	at := freeAddr(a.r.t)
	_, port, err := net.SplitHostPort(at)
	require.NoError(a.r.t, err)
	server := a.next("start", "-H", "127.0.0.1", "-p", port)
	require.NoError(a.r.t, server.Start())
	a.r.t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	return at
}

// page is what a server answers, once it does.
func (a *nextApp) page(at, id string) (body string) {
	a.r.t.Helper()
	eventually(a.r.t, 60*time.Second, func() bool {
		resp, err := http.Get("http://" + at + "/p/" + id)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		body = string(raw)
		return err == nil && resp.StatusCode == http.StatusOK
	}, "the server answers")
	return body
}

// TestNextRecipe: a Next.js server computes what it cached for a row again once the row has changed, and nothing else,
// by the rules and the route handler of the recipe. With a shared cache handler one process is asked for all.
func TestNextRecipe(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(filepath.Join("..", "docs", "recipes", "nextjs", "rules.yaml"))
	require.NoError(t, err)
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared handler %t", shared), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{catalog: string(rules), schema: schema + "ALTER TABLE products ADD category_id bigint;"})
			r.exec("INSERT INTO products (id, slug) VALUES (7, 'a'), (8, 'b')")
			var app *nextApp
			var at []string
			if shared {
				app = r.buildNext("CACHE_URL=redis://" + r.vk.Addr())
				at = []string{app.start(), app.start()}
			} else {
				app = r.buildNext()
				at = []string{app.start()}
			}
			addr := freeAddr(t)
			r.config(addr)
			r.edit("walpurge.yaml", "  edge:\n", "    flush: {key_patterns: ['*']}\n  next:\n    webhook: {url: 'http://"+at[0]+
				"/api/purge', json: '{\"tags\": tags}'}\n    flush: {tags: [products]}\n  edge:\n")
			d := r.spawn(addr, r.path("walpurge.yaml"), nil)
			d.untilStreaming()
			seven, eight := app.page(at[0], "7"), app.page(at[0], "8")
			for _, one := range at {
				require.Equal(t, seven, app.page(one, "7"), "it is cached")
			}
			if shared { // the layout that the recipe shows
				tags, err := r.cache.Do(t.Context(), r.cache.B().Hgetall().Key("shop:__sharedTags__").Build()).AsStrMap()
				require.NoError(t, err)
				require.ElementsMatch(t, []string{`["product-7"]`, `["product-8"]`}, slices.Collect(maps.Values(tags)))
			}
			r.exec("UPDATE products SET name = 'b' WHERE id = 7")
			d.wait(r.lsn(), 60*time.Second)
			again := app.page(at[0], "7")
			require.NotEqual(t, seven, again)
			for _, one := range at {
				require.Equal(t, again, app.page(one, "7"))
				require.Equal(t, eight, app.page(one, "8"))
			}
			d.term()
		})
	}
}
