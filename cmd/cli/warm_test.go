package cli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWarmCommand(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	var site string
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		packed := func(text string) {
			z := gzip.NewWriter(w)
			fmt.Fprint(z, text)
			_ = z.Close()
		}
		switch r.URL.Path {
		case "/index.xml":
			fmt.Fprintf(w, `<?xml version="1.0"?><sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap><loc>%[1]s/one.xml.gz</loc></sitemap>
				<sitemap><loc>%[1]s/two.txt</loc></sitemap><sitemap><loc>%[1]s/index.xml</loc></sitemap><sitemap><loc>http://other.invalid/x.xml</loc></sitemap></sitemapindex>`, site)
		case "/one.xml.gz":
			packed(fmt.Sprintf(`<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
				<url><loc> %[1]s/a?x=1&amp;y=2 </loc><image:image><image:loc>%[1]s/a.png</image:loc></image:image></url><url><loc>http://other.invalid/b</loc></url></urlset>`, site))
		case "/two.txt":
			fmt.Fprintf(w, "%[1]s/c\n%[1]s/c\n", site)
		case "/moved.xml":
			http.Redirect(w, r, "/index.xml", http.StatusFound)
		case "/page.html":
			fmt.Fprint(w, "<html></html>")
		default:
			mu.Lock()
			defer mu.Unlock()
			got[r.Host+r.URL.RequestURI()+" "+r.Header.Get("Walpurge-Warm")]++
			if r.URL.Path == "/broken" {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	}))
	defer edge.Close()
	site = edge.URL
	host := strings.TrimPrefix(site, "http://")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	head := `pipeline: shop
rules: [no/such/rules.yaml]
postgres: {url: "${NO_SUCH_VARIABLE}"}
sinks:
  edge: {varnish: {nodes: ["http://v:6081"]}, flush: {tags: [all]}}
`
	sink := func(base string) string { return fmt.Sprintf("  hot: {warm: {base: %q}, after: [edge]}\n", base) }
	file := write("walpurge.yaml", head+sink(site))
	run := func(stdin string, args ...string) (code int, stdout, stderr string) {
		mu.Lock()
		clear(got)
		mu.Unlock()
		var out, errs bytes.Buffer
		code = Main(append([]string{"warm", "-c", file}, args...), "test", strings.NewReader(stdin), &out, &errs)
		return code, out.String(), errs.String()
	}

	t.Run("a file", func(t *testing.T) {
		list := write("pages.txt", "\ufeff# pages\n\nhttps://shop.example/a\r\n/b\nhttps://shop.example/a\nhttps://other.example/c\n")
		code, out, errs := run("", "--urls", list, "--rate", "1000")
		require.Zero(t, code, errs)
		require.Regexp(t, `^warmed 2 of 2 pages in 0\.\d s, 1 of other hosts left out\n$`, out)
		require.Empty(t, errs, "no progress where there is no terminal")
		require.Equal(t, map[string]int{"shop.example/a shop/hot": 1, host + "/b shop/hot": 1}, got)
	})
	t.Run("the standard input, a page that fails, JSON", func(t *testing.T) {
		code, out, errs := run("/broken\n/b\n", "--urls", "-", "--json")
		require.Equal(t, 1, code)
		require.Equal(t, "/broken: HTTP 500\n", errs)
		require.Contains(t, out, `"warmed": 1,`)
		require.Contains(t, out, `"failed": 1,`)
	})
	t.Run("a sitemap", func(t *testing.T) {
		code, out, errs := run("", "--sitemap", site+"/index.xml", "--sink", "hot")
		require.Zero(t, code, errs)
		require.Contains(t, out, "warmed 2 of 2 pages")
		require.Contains(t, out, "2 of other hosts left out")
		require.Equal(t, map[string]int{host + "/a?x=1&y=2 shop/hot": 1, host + "/c shop/hot": 1}, got)
	})
	for name, tc := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"neither":           {"", nil, "name the pages by either --urls FILE or --sitemap URL"},
		"both":              {"", []string{"--urls", "-", "--sitemap", site}, "name the pages by either"},
		"no file":           {"", []string{"--urls", filepath.Join(dir, "none.txt")}, "--urls: open "},
		"a directory":       {"", []string{"--urls", dir}, "is a directory"},
		"empty":             {"# nothing\n", []string{"--urls", "-"}, "no page to warm: 0 URLs of other hosts"},
		"not a URL":         {"/a\nshop.example/b\n", []string{"--urls", "-"}, "--urls -: line 2: not a valid URL"},
		"a long line":       {"/" + strings.Repeat("a", 1<<20), []string{"--urls", "-"}, "--urls -: line 1: "},
		"no rate":           {"/a\n", []string{"--urls", "-", "--rate", "0"}, "requests_per_second: write a number above 0"},
		"no sink":           {"/a\n", []string{"--urls", "-", "--sink", "cold"}, `has no sink "cold" of the kind warm; there is hot`},
		"not a sitemap":     {"", []string{"--sitemap", site + "/page.html"}, `not a sitemap: its root is "html"`},
		"an empty sitemap":  {"", []string{"--sitemap", site + "/nothing"}, "not a sitemap: it is empty"},
		"a moved sitemap":   {"", []string{"--sitemap", site + "/moved.xml"}, "HTTP 302: a redirect, which is not followed"},
		"a lost sitemap":    {"", []string{"--sitemap", "http://127.0.0.1:1/sitemap.xml"}, "sitemap http://127.0.0.1:1/sitemap.xml: no answer"},
		"a sitemap as path": {"", []string{"--sitemap", "/sitemap.xml"}, "not a valid URL; write it like https://shop.example/sitemap.xml"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := run(tc.stdin, tc.args...)
			require.Equal(t, 2, code, "%s%s", out, errs)
			require.Contains(t, errs, tc.want)
		})
	}
	t.Run("files that cannot be used", func(t *testing.T) {
		for text, want := range map[string]string{
			head: "has no sink of the kind warm; add one",
			head + sink(site) + strings.Replace(sink(site), "hot", "cold", 1): "has several sinks of the kind warm; name one with --sink: hot, cold",
			head + sink("${NO_SUCH_VARIABLE}"):                                "sink hot: an environment variable that its block names is not set",
			"pipeline: shop\n":                                                "`sinks` is missing",
		} {
			file = write("other.yaml", text)
			code, _, errs := run("/a\n", "--urls", "-")
			require.Equal(t, 2, code, errs)
			require.Contains(t, errs, want)
		}
	})
	t.Run("a dead edge", func(t *testing.T) {
		file = write("dead.yaml", head+sink("http://127.0.0.1:1"))
		var list strings.Builder
		for n := range 500 {
			fmt.Fprintf(&list, "/%d\n", n)
		}
		code, out, errs := run(list.String(), "--urls", "-", "--rate", "10000")
		require.Equal(t, 1, code)
		require.Contains(t, out, "warmed 0 of 500 pages")
		require.Contains(t, out, "not tried")
		require.Contains(t, errs, "the edge gives no response, so the other pages were not tried")
		require.LessOrEqual(t, strings.Count(errs, "\n"), shownFailures+3)
	})
}

// The bar is drawn over itself.
func TestWarmProgress(t *testing.T) {
	var raw bytes.Buffer
	p := &progress{out: terminal{&raw, &raw}, live: true, total: 4, began: time.Now()}
	p.page("/a", nil)
	require.True(t, strings.HasPrefix(raw.String(), "[##########..............................] 1 of 4, 0 failed, time left "), raw.String())
	p.clear()
	require.True(t, strings.HasSuffix(raw.String(), clearLine))
}
