package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/router/stream"
)

// TestAnotherSizeOfTheStream changes stream.max_bytes of a daemon that runs, and starts it
// again. That nothing is dropped when the stream holds more is a test of the stream.
func TestAnotherSizeOfTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "stream: {max_bytes: 64MiB}"
	d := r.start()
	purges := func(limit string) {
		t.Helper()
		eventually(t, 30*time.Second, func() bool { return d.metric("walpurge_stream_limit_bytes") == limit }, "the limit is shown once the server has told it")
		r.fill([]string{"category:1"})
		r.exec("INSERT INTO categories (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = categories.name || 'x'")
		d.wait(r.lsn(), 30*time.Second)
		require.Empty(t, r.held("category:1"))
	}
	reload := func(oldnew ...string) (code int, body string) {
		t.Helper()
		r.edit("walpurge.yaml", oldnew...)
		code, body = d.post("/-/reload")
		d.untilStreaming()
		return code, body
	}
	again := func() {
		t.Helper()
		d.term()
		d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
		d.untilStreaming()
	}
	code, body := reload("max_bytes: 64MiB", "max_bytes: 8MiB")
	require.Equal(t, http.StatusOK, code, body)
	purges("8.388608e+06")
	again()
	purges("8.388608e+06")

	// A reload that fails for another reason leaves the size as it was.
	rules := r.read("rules/catalog.yaml")
	r.edit("rules/catalog.yaml", "category:{id}", "category:{di}")
	code, body = reload("max_bytes: 8MiB", "max_bytes: 4MiB")
	require.Equal(t, http.StatusUnprocessableEntity, code, body)
	r.write("rules/catalog.yaml", rules)
	purges("8.388608e+06")
	code, body = reload("max_bytes: 4MiB", "max_bytes: 64MiB")
	require.Equal(t, http.StatusOK, code, body)
	purges("6.7108864e+07")
}

// TestASizeThatTheServerRefuses: an external server has no room for a larger stream. A reload
// changes nothing then, and a start takes the size that is in force and says so.
func TestASizeThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	t.Cleanup(r.external(freeAddr(t), "nats", stream.StoreBytes(8<<20)).Close)
	r.extra += "\nstream: {max_bytes: 8MiB}"
	d := r.start()
	purges := func() {
		t.Helper()
		eventually(t, 30*time.Second, func() bool { return d.metric("walpurge_stream_limit_bytes") == "8.388608e+06" }, "the limit in force is shown once the server has told it")
		r.fill([]string{"category:1"})
		r.exec("INSERT INTO categories (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = categories.name || 'x'")
		d.wait(r.lsn(), 30*time.Second)
		require.Empty(t, r.held("category:1"))
	}
	const refused = "stream.max_bytes: the NATS server refuses 67108864 bytes for stream walpurge_app: "
	r.edit("walpurge.yaml", "max_bytes: 8MiB", "max_bytes: 64MiB")
	code, body := d.post("/-/reload")
	require.Equal(t, http.StatusUnprocessableEntity, code)
	require.Contains(t, body, refused)
	purges()

	d.term()
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	purges()
	require.Contains(t, d.status().ReloadError, refused)
	require.Equal(t, "0", d.metric(reloadOK))
	// What has nothing to do with it is reloaded all the same.
	r.edit("walpurge.yaml", "requests_per_second: 1000", "requests_per_second: 900")
	code, body = d.post("/-/reload")
	require.Equal(t, http.StatusOK, code, body)
	d.untilStreaming()
	purges()
	require.Contains(t, d.status().ReloadError, refused)
}
