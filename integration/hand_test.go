package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/integration/harness/edge"
)

// run calls a command that talks to the daemon.
func (d *daemon) run(args ...string) outcome {
	d.t.Helper()
	return call(d.t, []string{"WALPURGE_ADDR=" + d.addr}, args...)
}

// ok is what a command that must succeed prints.
func (d *daemon) ok(args ...string) string {
	d.t.Helper()
	o := d.run(args...)
	require.Equal(d.t, 0, o.code, "%s\n%s", o.stdout, o.stderr)
	return o.stdout
}

func TestPurgeByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "home"}, "/front")
	require.Equal(t, "would purge: 1 item in 1 request at cache\n", d.ok("purge", "--sink", "cache", "--key", "home", "--dry-run"))
	require.Equal(t, []string{"home"}, r.held("home"))
	require.Equal(t, "queued: 1 item in 1 request at cache\n", d.ok("purge", "--sink", "cache", "--key", "home"))
	eventually(t, 20*time.Second, func() bool { return len(r.held("home")) == 0 }, "the key is purged")
	d.ok("purge", "--sink", "edge", "--tag", "front")
	eventually(t, 20*time.Second, func() bool { return !r.edge.Stored(r.edge.URL() + "/front") }, "the page is purged")
	require.Regexp(t, `^would purge: key pattern "category:\*", key pattern "product:\*".* at cache \(valkey, 127\.0\.0\.1:\d+, database 0\), \d+ items in 1 request, not held back by its limits\n--supersede would drop: 0 items waiting in 0 messages\n$`,
		d.ok("purge", "--sink", "cache", "--all", "--dry-run"))
	require.Equal(t, "would purge: EVERYTHING at edge (cloudflare, zone "+zoneID+"), 1 item in 1 request, not held back by its limits\nwould drop: 0 items waiting in 0 messages\n",
		d.ok("purge", "--sink", "edge", "--all", "--supersede", "--dry-run"))
	o := d.run("purge", "--sink", "cache", "--all")
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stderr, "add --yes; nothing was purged")
	require.Equal(t, []string{"product:1"}, r.held("product:1"))
	d.ok("purge", "--sink", "cache", "--all", "--yes")
	eventually(t, 20*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "the flush plan is carried out")
	require.Equal(t, "1", d.metric(`walpurge_flushes_total{reason="by_hand",sink="cache"}`))

	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--sink", "cahce", "--key", "a"}, `there is no sink "cahce"; there is cache, edge`},
		{[]string{"--sink", "cache", "--tag", "a"}, "sink cache takes no tag"},
		{[]string{"--sink", "cache", "--key", ""}, "an empty key would purge nothing or everything; --all purges everything"},
		{[]string{"--sink", "cache"}, "nothing to purge: name a value, or all"},
		{[]string{"--key", "a"}, "--sink is missing: name the sink to purge; see walpurge status"},
	} {
		o := d.run(append([]string{"purge"}, c.args...)...)
		require.Equal(t, 2, o.code)
		require.Equal(t, "walpurge: "+c.says+"\n", o.stderr)
	}
}

// TestAManualPurgePurgesWhatItNames: after any manual purge, and after a restart or a reload
// of sinks, the next one flushes nothing. Which sink it is makes no difference to the stream,
// whose own tests have the other cases.
func TestAManualPurgePurgesWhatItNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	for _, step := range []func(){
		func() {},
		func() { d.term(); d = r.start() },
		func() {
			r.edit("walpurge.yaml", "requests_per_second: 1000", "requests_per_second: 900")
			code, body := d.post("/-/reload")
			require.Equal(t, 200, code, body)
			d.untilStreaming()
		},
		func() { d.kill(); d = r.start() },
	} {
		step()
		r.fill([]string{"product:1", "product:2"}, "/product-1", "/product-2")
		d.ok("purge", "--sink", "cache", "--key", "product:1")
		d.ok("purge", "--sink", "edge", "--tag", "product-1", "--supersede")
		eventually(t, 60*time.Second, func() bool {
			return len(r.held("product:1")) == 0 && !r.edge.Stored(r.edge.URL()+"/product-1")
		}, "both are purged")
		require.Equal(t, []string{"product:2"}, r.held("product:2"))
		require.True(t, r.edge.Stored(r.edge.URL()+"/product-2"))
		for _, sink := range []string{"cache", "edge"} {
			for _, reason := range []string{"stream_hole", "stream_head_lost"} {
				require.Equal(t, "0", d.metric(fmt.Sprintf(`walpurge_flushes_total{reason=%q,sink=%q}`, reason, sink)))
			}
		}
	}
}

// TestSupersede: an edge that takes two requests a second has a backlog of
// minutes; one purge by hand stands for all of it.
func TestSupersede(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "requests_per_second: 1000, burst: 1000", "requests_per_second: 2, burst: 1")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, 30000) n")
	end := r.lsn()
	target, err := cdc.ParseLSN(end)
	require.NoError(t, err)
	eventually(t, 60*time.Second, func() bool {
		return slices.ContainsFunc(d.status().Watermarks, func(w status.Watermark) bool { return w.Stage == "published" && w.LSN >= target })
	}, "all of it waits in the stream")
	o := d.run("wait", end, "--sink", "edge", "--timeout", "1s")
	require.Equal(t, 1, o.code, "300 requests at 2/s take minutes")
	// The bucket is empty, and what waits is counted.
	would := d.ok("purge", "--sink", "edge", "--all", "--supersede", "--dry-run")
	require.Regexp(t, `^would purge: EVERYTHING at edge \(cloudflare, zone `+zoneID+`\), 1 item in 1 request, .*\nwould drop: \d{4,} items waiting in \d+ messages\n$`, would)
	var report admin.PurgeReport
	code, text := d.post("/api/v1/purge", `{"sink": "edge", "all": true, "dry_run": true}`)
	require.Equal(t, 200, code, text)
	require.NoError(t, json.Unmarshal([]byte(text), &report))
	require.True(t, report.Everything)
	require.Equal(t, "app cloudflare zone "+zoneID, report.Pipeline+" "+report.Kind+" "+report.Where)
	require.Positive(t, report.Waiting.Items)
	began := time.Now()
	d.ok("purge", "--sink", "edge", "--tag", "products", "--supersede")
	require.Equal(t, "purged up to "+end+"\n", d.ok("wait", end, "--sink", "edge", "--timeout", "80s"))
	t.Logf("the backlog was gone after %s", time.Since(began))
	r.fill(nil, "/product-1")
	r.exec("UPDATE products SET name = 'later' WHERE id = 1")
	d.wait(r.lsn(), time.Minute)
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"), "what comes later is purged as ever")
}

func TestParkedByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, "nothing is parked\n", d.ok("parked", "list"))
	status := d.ok("status")
	require.True(t, strings.HasPrefix(status, "FRESH: every sink within "), status)

	// No edge takes a tag with a space in it.
	d.ok("purge", "--sink", "edge", "--tag", "x y")
	eventually(t, 20*time.Second, func() bool { return d.sink("edge").Parked > 0 }, "the edge refuses it")
	r.exec("UPDATE products SET name = 'x y' WHERE id = 1")
	end := r.lsn()
	o := d.run("wait", end, "--timeout", "20s")
	require.Equal(t, 1, o.code)
	require.Regexp(t, `\d messages? below (is|are) parked at sink edge; see walpurge parked list`, o.stderr)
	list := d.ok("parked", "list", "--sink", "edge")
	require.Contains(t, list, `tag "x y" (rule by_hand)`)
	o = d.run("status")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stdout, "STALE at edge: ")
	require.Contains(t, o.stdout, "Try: walpurge parked list --sink edge\n")
	require.NotEqual(t, "0", d.metric(`walpurge_oldest_unpurged_seconds{sink="edge"}`), "what is parked is not purged")
	// A row that was written now is purged at the sink only when nothing is parked.
	eventually(t, 20*time.Second, func() bool { return *d.sink("edge").LagSeconds > 2 }, "the lag of the sink is that of what is parked")
	lag := func(sink string) float64 {
		seconds, err := strconv.ParseFloat(d.metric(`walpurge_lag_seconds{stage="purged",target="`+sink+`"}`), 64)
		require.NoError(t, err)
		return seconds
	}
	require.Greater(t, lag("edge"), 2.0)
	eventually(t, time.Minute, func() bool { return 2*lag("cache") < lag("edge") }, "only that sink's lag grows")

	d.ok("parked", "retry", "--sink", "edge")
	eventually(t, 20*time.Second, func() bool { return strings.Contains(d.ok("parked", "list"), "x y") }, "what is refused again is parked again")
	require.Regexp(t, `^dropped \d+ messages?\n$`, d.ok("parked", "drop", "--all"))
	require.Equal(t, "nothing is parked\n", d.ok("parked", "list"))
	require.Equal(t, "purged up to "+end+"\n", d.ok("wait", end))
	eventually(t, 20*time.Second, func() bool { return d.metric(`walpurge_oldest_unpurged_seconds{sink="edge"}`) == "0" }, "nothing is left")
	require.Equal(t, "walpurge: there is no parked message 99\n", d.run("parked", "drop", "99").stderr)
}

func TestPauseAndReplayByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, "paused cache\n", d.ok("pause", "--sink", "cache"))
	r.fill([]string{"category:1"})
	r.exec("INSERT INTO categories (id) VALUES (1)")
	end := r.lsn()
	require.Equal(t, 1, d.run("wait", end, "--sink", "cache", "--timeout", "1s").code)
	require.Equal(t, []string{"category:1"}, r.held("category:1"))
	require.Equal(t, "paused", d.sink("cache").State)
	require.Equal(t, "1", d.metric(`walpurge_sink_state{sink="cache",state="paused"}`))
	require.Equal(t, "resumed cache\n", d.ok("resume", "--sink", "cache"))
	d.ok("wait", end)
	require.Empty(t, r.held("category:1"))
	require.Equal(t, "1", d.metric(`walpurge_purge_hits_total{rule="category",result="existed"}`))

	// A cache restored from a backup has the old copy again.
	r.fill([]string{"category:1"}, "/category-1")
	require.Regexp(t, `^queued again: [1-9]\d* invalidations in [1-9]\d* messages\n$`, d.ok("replay", "--since", "1h"))
	eventually(t, 20*time.Second, func() bool { return len(r.held("category:1")) == 0 }, "the key is purged again")
	eventually(t, 20*time.Second, func() bool { return !r.edge.Stored(r.edge.URL() + "/category-1") }, "and the page")
	require.Equal(t, 2, d.run("replay").code)
}

func TestTailByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.edge.Inject(1, edge.Fault{Kind: edge.ServerError})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	cmd := command([]string{"WALPURGE_ADDR=" + d.addr}, "tail", "--sink", "cache")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	// It says nothing when it begins to listen, so rows change until one shows.
	deadline := time.After(30 * time.Second)
	for n, seen := 0, false; !seen; n++ {
		r.exec(fmt.Sprintf("INSERT INTO categories (id) VALUES (%d)", n))
		select {
		case line := <-lines:
			require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3}  cache  key "category:\d+"  category$`, line)
			seen = true
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			require.FailNow(t, "nothing was shown")
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	go func() {
		for range lines { //nolint:revive // only drained
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil {
		require.ErrorAs(t, err, &exit)
		require.FailNow(t, "tail ends cleanly", err.Error())
	}
}

// TestByHandSurvivesACrash: the command ends once the purge is stored, and a
// daemon killed right then purges after its start.
func TestByHandSurvivesACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"home"})
	require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP))
	d.ok("purge", "--sink", "cache", "--key", "home")
	d.kill()
	r.wakeCache("home")
	d = r.start()
	eventually(t, 20*time.Second, func() bool { return len(r.held("home")) == 0 }, "the key is purged")
	d.term()
}

func TestHandAPIIsStrict(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	for body, code := range map[string]int{
		`{"sink": "cache", "keys": ["a"]}`: 200, `{"sink": "cache", "kyes": ["a"]}`: 400, `{}{}`: 400, ``: 400, `{"sink": "none", "keys": ["a"]}`: 404,
	} {
		got, text := d.post("/api/v1/purge", body)
		require.Equal(t, code, got, "%s: %s", body, text)
		require.True(t, json.Valid([]byte(text)))
	}
	got, text := d.get("/api/v1/parked?sink=" + url.QueryEscape("no where"))
	require.Equal(t, 404, got, text)
	got, text = d.get("/api/v1/tail?sink=nowhere")
	require.Equal(t, 404, got, text)
}
