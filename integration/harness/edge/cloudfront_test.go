package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const distributionPath = "/2020-05-31/distribution/E2EXAMPLE1234/invalidation"

// invalidate asks CloudFront's API and returns the status and the body.
func (b *bench) invalidate(reference string, paths ...string) (int, string) {
	var items strings.Builder
	for _, p := range paths {
		items.WriteString("<Path>" + strings.ReplaceAll(p, "&", "&amp;") + "</Path>")
	}
	return b.cloudfront(http.MethodPost, distributionPath, fmt.Sprintf(`<InvalidationBatch xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/">`+
		`<CallerReference>%s</CallerReference><Paths><Quantity>%d</Quantity><Items>%s</Items></Paths></InvalidationBatch>`, reference, len(paths), items.String()))
}

func (b *bench) cloudfront(method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/us-east-1/cloudfront/aws4_request, SignedHeaders=host, Signature=00")
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func cloudfrontBench(t *testing.T, change func(*Config)) (*bench, *timed) {
	origin := &timed{}
	b := newBench(t, func(c *Config) {
		c.Origin, c.ObeyCacheControl, c.Accounts = origin, true, nil
		c.Distributions = []Distribution{{ID: "E2EXAMPLE1234", Hosts: []string{"shop.example"}}}
		if change != nil {
			change(c)
		}
	})
	return b, origin
}

func TestInvalidations(t *testing.T) {
	const p, q, below = "https://shop.example/a", "https://shop.example/a?x=1&y=2", "https://shop.example/a/b"
	for paths, gone := range map[string][]string{
		"/a": {p}, "/a?x=1&y=2": {q}, "/a*": {p, q, below}, "/a?*": {q}, "/a/*": {below}, "/*": {p, q, below}, "#RED": {p, q, below}, "#blue": nil, "/A": nil, "/b": nil,
		"/a\n/a/b": {p, below},
	} {
		b, origin := cloudfrontBench(t, nil)
		origin.answers("Cache-Control", "max-age=60", "Vary", "Accept-Language", "Cache-Tag", "red,big")
		all := []string{p, q, below}
		for _, u := range all {
			b.get(u, "Accept-Language", "de")
			b.get(u, "Accept-Language", "en")
		}
		status, body := b.invalidate("one", strings.Split(paths, "\n")...)
		require.Equal(t, http.StatusCreated, status, body)
		var left []string
		for _, u := range all {
			if !b.edge.Stored(u) {
				left = append(left, u)
			}
		}
		require.Equal(t, gone, left, paths)
		require.Equal(t, 2*(len(all)-len(gone)), b.edge.Objects(), "every variant of a path goes")
	}
}

func TestInvalidationsAreChecked(t *testing.T) {
	b, _ := cloudfrontBench(t, nil)
	for _, bad := range [][]string{{}, {"a"}, {""}, {"/a b"}, {"/ü"}, {"/~"}, {"#"}, {"#a,b"}, {"/" + strings.Repeat("a", 4001)}, {"/a", "b"}} {
		status, body := b.invalidate(fmt.Sprint(bad), bad...)
		require.Equal(t, http.StatusBadRequest, status, "%v %s", bad, body)
	}
	status, body := b.cloudfront(http.MethodPost, distributionPath, "<InvalidationBatch/>")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "MalformedXML")
	status, body = b.cloudfront(http.MethodPost, strings.Replace(distributionPath, "E2", "E3", 1), "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "NoSuchDistribution")
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, httptest.NewRequest(http.MethodPost, distributionPath, nil))
	require.Equal(t, http.StatusForbidden, w.Code)
}

// An invalidation takes its time, and what is in progress is bounded until it has ended.
func TestInvalidationsInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, origin := cloudfrontBench(t, func(c *Config) { c.PurgeDelay = new(5 * time.Second) })
		origin.answers("Cache-Control", "max-age=600")
		const page = "https://shop.example/a"
		b.get(page)
		status, body := b.invalidate("one", "/a")
		require.Equal(t, http.StatusCreated, status)
		require.Contains(t, body, "<Status>InProgress</Status>")
		_, rest, _ := strings.Cut(body, "<Id>")
		id, _, _ := strings.Cut(rest, "</Id>")
		require.True(t, b.edge.Stored(page))

		var wild []string
		for i := range wildcardsInProgress {
			wild = append(wild, fmt.Sprintf("/w%d/*", i))
		}
		status, _ = b.invalidate("two", wild...)
		require.Equal(t, http.StatusCreated, status)
		status, body = b.invalidate("three", "/more/*")
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, "TooManyInvalidationsInProgress")

		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.False(t, b.edge.Stored(page))
		status, body = b.cloudfront(http.MethodGet, distributionPath+"/"+id, "")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "<Status>Completed</Status>")
		status, _ = b.invalidate("three", "/more/*")
		require.Equal(t, http.StatusCreated, status)

		// The same reference does nothing again, and for other paths it is refused.
		time.Sleep(6 * time.Second)
		b.get(page)
		status, _ = b.invalidate("one", "/a")
		require.Equal(t, http.StatusCreated, status)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.True(t, b.edge.Stored(page))
		status, body = b.invalidate("one", "/b")
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, "InvalidationBatchAlreadyExists")
	})
}
