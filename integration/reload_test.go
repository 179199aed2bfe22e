package integration

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const reloadOK = "walpurge_config_last_reload_successful"

func TestReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	file := r.read("walpurge.yaml")
	require.Equal(t, "1", d.metric(reloadOK))
	purges := func(key string) {
		t.Helper()
		r.fill([]string{key})
		r.exec("INSERT INTO categories (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = categories.name || 'x'")
		d.wait(r.lsn(), 30*time.Second)
		require.Empty(t, r.held(key))
	}
	purges("category:1")

	for i, c := range []struct {
		name  string
		cause func()
		want  string
	}{
		{"broken rules", func() { r.edit("rules/catalog.yaml", "table: public.products", "tabel: public.products") }, `unknown key "tabel"`},
		{"missing table", func() { r.edit("rules/catalog.yaml", "public.products", "public.product") }, "table public.product does not exist"},
		{"missing column", func() { r.edit("rules/catalog.yaml", "category:{id}", "category:{di}") }, `no column "di"`},
		{"data_dir", func() { r.edit("walpurge.yaml", "/data\n", "/data2\n") }, "`data_dir` changed, and that needs a restart"},
		{"listen", func() { r.edit("walpurge.yaml", d.addr, "127.0.0.1:1") }, "`http` changed, and that needs a restart"},
		{"sink without a way to flush", func() { r.edit("walpurge.yaml", "    flush: {everything: true}\n", "") }, "sink edge cannot be flushed after a gap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() {
				r.write("rules/catalog.yaml", catalog)
				r.write("walpurge.yaml", file)
			})
			c.cause()
			d.hangup("reload failed, the old configuration goes on")
			code, body := d.post("/-/reload")
			require.Equal(t, http.StatusUnprocessableEntity, code)
			require.Contains(t, strings.ReplaceAll(body, `\"`, `"`), c.want)
			require.Equal(t, "0", d.metric(reloadOK))
			purges("category:1")
			if i == 0 {
				r.write("rules/catalog.yaml", catalog)
				d.hangup("msg=reloaded")
				require.Equal(t, "1", d.metric(reloadOK))
			}
		})
	}
	require.Equal(t, []string{"public.categories", "public.products"}, r.published())
	require.NoDirExists(t, r.path("data2"))

	r.edit("rules/catalog.yaml", `"category:{id}"`, `"category:{id}", "cat:{id}"`)
	r.edit("walpurge.yaml", "http: {", "log: {level: debug}\nhttp: {")
	d.hangup("msg=reloaded")
	purges("cat:1")
}

// TestReloadUnderLoad changes rules back and forth while rows change: no purge
// of the rule that stays may be lost.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	keys := make([]string, 2000)
	for i := range keys {
		keys[i] = "category:" + strconv.Itoa(i)
	}
	r.fill(keys)
	enough, done := make(chan struct{}), make(chan error, 1)
	rows := 0
	go func() {
		for ; rows < len(keys); rows++ {
			select {
			case <-enough:
				done <- nil
				return
			default:
			}
			if _, err := r.db.Exec(t.Context(), "INSERT INTO categories (id) VALUES ($1)", rows); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := range 6 {
		r.write("rules/catalog.yaml", catalog)
		if n%2 == 1 {
			r.edit("rules/catalog.yaml", "  - name: product\n", "  - {name: version, table: public.versions, keys: [\"version:{id}\"]}\n  - name: product\n")
		}
		code, body := d.post("/-/reload")
		require.Equal(t, http.StatusOK, code, body)
	}
	close(enough)
	require.NoError(t, <-done)
	require.Positive(t, rows)
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held(keys[:rows]...))
}

// TestReloadOfSinks changes limits, adds a sink, renames one with its backlog and takes
// one out, all while rows change and the listener goes on: nothing is lost, and what
// cannot be done leaves all as it was.
func TestReloadOfSinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	d := r.start()
	w := startWriters(r, 2)
	other := "  other:\n    valkey: {url: '" + strings.TrimSuffix(r.valkeyURL, "/0") + "/1'}\n"
	pid := d.cmd.Process.Pid
	changed := func(oldnew ...string) {
		t.Helper()
		r.edit("walpurge.yaml", oldnew...)
		code, body := d.post("/-/reload")
		require.Equal(t, http.StatusOK, code, body)
		d.untilStreaming()
	}
	changed("requests_per_second: 1000", "requests_per_second: 900")
	changed("  edge:\n", other+"  edge:\n")
	require.Equal(t, "ok", d.sink("other").State)

	// Paused, so that it has a backlog; a pause outlives the exchange.
	d.ok("pause", "--sink", "edge")
	eventually(t, 20*time.Second, func() bool { return d.sink("edge").Backlog > 0 }, "the backlog grows")
	before := r.read("walpurge.yaml")
	r.edit("walpurge.yaml", "  edge:\n", "  cdn:\n")
	code, body := d.post("/-/reload")
	require.Equal(t, http.StatusUnprocessableEntity, code)
	require.Contains(t, body, "formerly: edge")
	require.Equal(t, "0", d.metric(reloadOK))
	require.Equal(t, "paused", d.sink("edge").State)
	r.write("walpurge.yaml", before)
	changed("requests_per_second: 900", "requests_per_second: 800")
	require.Equal(t, "paused", d.sink("edge").State)
	d.ok("resume", "--sink", "edge")
	changed("  edge:\n", "  cdn:\n    formerly: edge\n")
	changed(other, "", "http: {", "retired: [other]\nhttp: {")
	require.Len(t, d.status().Sinks, 2)
	w.halt(t)
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	require.Equal(t, pid, d.cmd.Process.Pid)
	require.Equal(t, "1", d.metric(reloadOK))
	d.fresh()
}

// TestReloadIsTriedAgain: a reload that fails for a reason outside the files is tried again until it
// succeeds, one that fails because of the files is not; and check says what the daemon lacks.
func TestReloadIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.pgExtra = "\n  heartbeat: 500ms"
	d := r.start()
	file := r.path("walpurge.yaml")
	const lacks = "note: the running daemon does not have these files yet"
	reload := func() outcome { return call(t, nil, "reload", "-c", file) }
	o := r.call("check")
	require.Equal(t, 0, o.code, o.stdout)
	require.NotContains(t, o.stdout, "note:")

	// The database does not have what the rules name: a migration that comes later.
	r.write("rules/later.yaml", "rules:\n  - {name: later, table: public.later, keys: [\"later:{id}\"]}\n")
	o = reload()
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stderr, "table public.later does not exist")
	o = r.call("check")
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stdout, lacks+", its newest reload failed: ")
	eventually(t, 20*time.Second, func() bool {
		return strings.Contains(d.logs.String(), "the reload fails again, trying at each heartbeat")
	}, "it is tried again")
	// Then the privilege, or here the identity, is missing.
	r.exec("CREATE TABLE later (id int, x text)")
	eventually(t, 20*time.Second, func() bool { return strings.Contains(d.status().ReloadError, "replica identity") }, "the newest reason is shown")
	require.Equal(t, "0", d.metric(reloadOK))
	r.exec("ALTER TABLE later ADD PRIMARY KEY (id)")
	eventually(t, 20*time.Second, func() bool { return d.metric(reloadOK) == "1" }, "it succeeds")
	require.Contains(t, d.logs.String(), `level=INFO msg="the reload succeeded" lasted=`)
	require.Empty(t, d.status().ReloadError)
	r.fill([]string{"later:1"})
	r.exec("INSERT INTO later VALUES (1)")
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held("later:1"))
	o = r.call("check")
	require.Equal(t, 0, o.code, o.stdout)
	require.NotContains(t, o.stdout, "note:")

	// A mistake in the files is not tried again.
	tries := func() int { return strings.Count(d.logs.String(), "the reload fails again") }
	before := tries()
	r.write("rules/later.yaml", "rules:\n  - {nmae: later}\n")
	o = reload()
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, `unknown key "nmae"`)
	require.Contains(t, d.logs.String(), "tried_again=false")
	d.beats(3)
	require.Equal(t, before, tries())

	// While one waits to be tried again, files that change end that: here with a change that needs
	// a restart, and then with none.
	r.write("rules/later.yaml", "rules:\n  - {name: never, table: public.never, keys: [\"never:{id}\"]}\n")
	require.Equal(t, 1, reload().code)
	text := r.read("walpurge.yaml")
	r.edit("walpurge.yaml", "/data\n", "/data2\n")
	o = reload()
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "`data_dir` changed, and that needs a restart")
	r.write("walpurge.yaml", text)
	r.write("rules/later.yaml", "# nothing but a comment\nrules:\n  - {name: later, table: public.later, keys: [\"later:{id}\"]}\n")
	o = reload()
	require.Equal(t, 0, o.code, o.stderr)
	require.Equal(t, "reloaded\n", o.stdout)
	require.NotContains(t, r.call("check").stdout, "note:")

	d.term()
	o = reload()
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "no daemon answers")
	require.NotContains(t, r.call("check").stdout, "note:")
}
