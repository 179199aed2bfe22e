package integration

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drill is one fault as the one on call meets it.
type drill struct {
	name  string
	alert string
	// says is what the status says while the fault lasts.
	says string
	// fresh: the fault is a danger or has passed, and leaves nothing stale.
	fresh bool
	// refuses names the sinks for which wait answers 409, and takes those for which it goes on.
	refuses, takes []string
	// options are those of the rig.
	options rigOptions
	// prepare comes before the daemon is started, on the rig's files.
	prepare func(r *rig)
	start   func(r *rig) *daemon
	cause   func(r *rig, d *daemon)
	mend    func(r *rig, d *daemon)
	// alone: the danger pages besides the staleness that has the same cause.
	alone bool
	// long: it takes more than a minute, or what not every machine allows.
	long bool
	// windowed: the alert looks back, so that it outlasts the fault.
	windowed bool
}

func drills() []drill {
	slowEdge := func(r *rig) {
		r.edit("walpurge.yaml", "requests_per_second: 1000, burst: 1000", "requests_per_second: 1, burst: 1, items_per_request: 1")
	}
	tight := func(r *rig) {
		r.edit("walpurge.yaml", "cache:\n", "cache:\n    on_overflow: stop\n", "edge:\n", "edge:\n    on_overflow: stop\n", "http: {", "stream: {max_bytes: 1MiB}\nhttp: {")
	}
	holder, sender := 0, 0
	var replica *standby
	var external *natsServer
	return []drill{
		{name: "sink_down", alert: "WalpurgeSinkBlocked", says: " at cache: valkey: connecting: ",
			cause: func(r *rig, _ *daemon) {
				require.NoError(r.t, r.vk.Kill())
				r.exec("INSERT INTO categories (id) VALUES (1)")
			},
			mend: func(r *rig, _ *daemon) { require.NoError(r.t, r.vk.Restart(r.t.Context())) }},
		{name: "edge_throttled", long: true, alert: "WalpurgeEdgeDebt", says: " messages waiting, ", prepare: slowEdge,
			cause: func(r *rig, _ *daemon) {
				r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, 100000) n")
			},
			mend: func(_ *rig, d *daemon) { d.ok("purge", "--sink", "edge", "--all", "--supersede", "--yes") }},
		{name: "walsender_stuck", long: true, alert: "WalpurgeNoLeader", says: "NOT STREAMING since ",
			cause: func(r *rig, _ *daemon) {
				sender = r.walsender()
				require.NoError(r.t, syscall.Kill(sender, syscall.SIGSTOP))
				r.t.Cleanup(func() { _ = syscall.Kill(sender, syscall.SIGCONT) })
			},
			mend: func(r *rig, _ *daemon) { require.NoError(r.t, syscall.Kill(sender, syscall.SIGCONT)) }},
		{name: "slot_near_limit", long: true, alert: "WalpurgeSlotNearLimit", alone: true, says: "slot walpurge_app is near its limit", prepare: tight,
			cause: func(r *rig, d *daemon) {
				r.exec("ALTER SYSTEM SET max_slot_wal_keep_size = '96MB'")
				r.exec("SELECT pg_reload_conf()")
				require.NoError(r.t, r.vk.Kill())
				r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 10000) n")
				eventually(r.t, 30*time.Second, func() bool { return d.status().Reader.Blocked == "stream_full" }, "the stream fills")
				r.fillLog(70)
			},
			mend: func(r *rig, _ *daemon) { require.NoError(r.t, r.vk.Restart(r.t.Context())) }},
		{name: "disk_nearly_full", long: true, fresh: true, alert: "WalpurgeDiskNearlyFull", says: "the disk of data_dir has ",
			prepare: func(r *rig) { r.edit("walpurge.yaml", "http: {", "stream: {max_bytes: 8MiB}\nhttp: {") },
			start:   func(r *rig) *daemon { holder = r.smallDisk(); return r.onDisk(holder) },
			cause: func(r *rig, _ *daemon) {
				require.NoError(r.t, os.WriteFile(filler(r, holder), make([]byte, 5<<20), 0o644))
			},
			mend: func(r *rig, _ *daemon) { require.NoError(r.t, os.Remove(filler(r, holder))) }},
		{name: "parked", alert: "WalpurgeParked", says: "STALE at edge: ",
			cause: func(_ *rig, d *daemon) { d.ok("purge", "--sink", "edge", "--tag", "x y") },
			mend:  func(_ *rig, d *daemon) { d.ok("parked", "drop", "--sink", "edge") }},
		{name: "gap", fresh: true, alert: "WalpurgeGap", says: "after a gap (skipped)", windowed: true,
			cause: func(r *rig, d *daemon) {
				d.ok("skip", "--to", "current", "--pipeline", "app", "-c", r.path("walpurge.yaml"))
			}},
		{name: "nats_empty", fresh: true, alert: "WalpurgeGap", says: "after a gap (stream_behind)", windowed: true,
			prepare: func(r *rig) {
				external = r.external(freeAddr(r.t), "nats", 4<<30)
				r.edit("walpurge.yaml", "http: {", r.extra+"\nhttp: {")
			},
			cause: func(r *rig, _ *daemon) {
				r.fill([]string{"category:1"})
				listen := external.Addr().String()
				external.Close()
				r.t.Cleanup(r.external(listen, "empty", 4<<30).Close)
				eventually(r.t, 2*time.Minute, func() bool { return len(r.held("category:1")) == 0 }, "the sinks are flushed")
			}},
		{name: "valkey_restored", fresh: true, alert: "WalpurgeCacheCameBack", says: "cache may have held again what was purged (restarted)", windowed: true,
			options: rigOptions{valkey: []string{"--save", "3600 1"}},
			cause: func(r *rig, d *daemon) {
				r.fill([]string{"category:1"})
				r.do("SAVE")
				snapshot, err := os.ReadFile(r.path("valkey/dump.rdb"))
				require.NoError(r.t, err)
				r.exec("INSERT INTO categories (id) VALUES (1)")
				d.wait(r.lsn(), 60*time.Second)
				r.do("SAVE")
				require.NoError(r.t, r.vk.Kill())
				require.NoError(r.t, os.WriteFile(r.path("valkey/dump.rdb"), snapshot, 0o644))
				require.NoError(r.t, r.vk.Restart(r.t.Context()))
				eventually(r.t, time.Minute, func() bool { return len(r.held("category:1")) == 0 }, "what came back is purged again")
			}},
		{name: "valkey_failover", fresh: true, alert: "WalpurgeCacheCameBack", says: "cache may have held again what was purged (failover)", windowed: true,
			prepare: func(r *rig) { replica = r.replicate(); r.edit("walpurge.yaml", r.vk.URL(), r.valkeyURL) },
			cause: func(r *rig, d *daemon) {
				r.fill([]string{"category:1"})
				eventually(r.t, time.Minute, func() bool { return replica.ask("EXISTS category:1") == "1" }, "the replica has the entry")
				replica.ask("REPLICAOF NO ONE") // it has not received the purge
				r.exec("INSERT INTO categories (id) VALUES (1)")
				d.wait(r.lsn(), 60*time.Second)
				require.Equal(r.t, "1", replica.ask("EXISTS category:1"))
				replica.point(replica.replica.Addr())
				eventually(r.t, time.Minute, func() bool { return replica.ask("EXISTS category:1") == "0" }, "what came back is purged again")
			}},
		{name: "unpublished_table", alert: "WalpurgeRuleProblem", says: "STALE at cache and edge: table public.products is not published, and postgres.manage is false",
			prepare: func(r *rig) {
				require.Zero(r.t, r.call("setup").code)
				r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  manage: false\n")
			},
			cause:   func(r *rig, _ *daemon) { r.exec("ALTER PUBLICATION walpurge_app DROP TABLE products") },
			refuses: []string{"cache", "edge"},
			mend:    func(r *rig, _ *daemon) { r.exec("ALTER PUBLICATION walpurge_app ADD TABLE products") }},
		{name: "renamed_column", alert: "WalpurgeRuleProblem", says: `STALE at cache: `,
			cause: func(r *rig, _ *daemon) {
				r.exec("ALTER TABLE products RENAME COLUMN slug TO handle")
				r.exec("INSERT INTO products (id, handle) VALUES (1, 'a')")
			},
			prepare: func(r *rig) {
				r.write("rules/catalog.yaml", `rules:
  - {name: product, table: public.products, keys: ["product:slug:{slug}"], sinks: [cache]}
  - {name: page, table: public.products, tags: ["product-{id}"], sinks: [edge]}
  - {name: category, table: public.categories, keys: ["category:{id}"], tags: ["category-{id}"]}
`)
			},
			refuses: []string{"cache"}, takes: []string{"edge"},
			mend: func(r *rig, _ *daemon) { r.exec("ALTER TABLE products RENAME COLUMN handle TO slug") }},
		{name: "value_too_long", alert: "WalpurgeRuleUnknown", says: "STALE at edge: 1 message parked", windowed: true,
			prepare: func(r *rig) {
				r.write("rules/catalog.yaml", `rules:
  - {name: product, table: public.products, keys: ["product:slug:{slug}"], tags: ["product-{slug}"], sinks: [cache, edge]}
  - {name: category, table: public.categories, keys: ["category:{id}"], tags: ["category-{id}"]}
`)
			},
			cause: func(r *rig, _ *daemon) {
				r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 2000) || n FROM generate_series(1, 50) n")
			},
			refuses: []string{"edge"}, takes: []string{"cache"},
			mend: func(_ *rig, d *daemon) { d.ok("parked", "drop", "--sink", "edge") }},
		{name: "bad_reload", fresh: true, alert: "WalpurgeReloadFailed", says: `the newest files are not in service: `,
			cause: func(r *rig, d *daemon) {
				r.edit("rules/catalog.yaml", "table: public.products", "tabel: public.products")
				code, _ := d.post("/-/reload")
				require.Equal(r.t, 422, code)
			},
			mend: func(r *rig, d *daemon) {
				r.write("rules/catalog.yaml", catalog)
				code, body := d.post("/-/reload")
				require.Equal(r.t, 200, code, body)
			}},
	}
}

// refusal is what wait says of a sink that it answers 409 for.
func (f *drill) refusal() string {
	if f.alert == "WalpurgeRuleProblem" {
		return "changes may not be purged at "
	}
	return "parked"
}

func filler(r *rig, holder int) string {
	return "/proc/" + strconv.Itoa(holder) + "/root" + r.path("data/filler")
}

// TestOnCallDrill causes one fault after the other. A real Prometheus sees the alert's
// expression come true, the status says what is wrong, and so do the metric walpurge_fresh and
// `walpurge status`. Of all alerts that the fault raises, the shipped inhibit_rules let one page
// through. When the fault is over, all are as before.
func TestOnCallDrill(t *testing.T) {
	t.Parallel()
	p, inhibit := startPrometheus(t), readInhibitRules(t)
	t.Run("faults", func(t *testing.T) {
		for _, f := range drills() {
			if f.long && !full {
				continue
			}
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				eventually := func(t *testing.T, within time.Duration, cond func() bool, msg string, args ...any) {
					t.Helper() // a scrape takes a second
					require.Eventually(t, cond, within, 250*time.Millisecond, append([]any{msg}, args...)...)
				}
				r := newRig(t, f.options)
				addr := freeAddr(t)
				r.config(addr)
				if f.prepare != nil {
					f.prepare(r)
				}
				var d *daemon
				if f.start != nil {
					d = f.start(r)
				} else {
					d = r.spawn(addr, r.path("walpurge.yaml"), nil)
				}
				d.untilStreaming()
				d.wait(r.lsn(), 60*time.Second)
				p.scrape(f.name, d)
				require.False(t, p.fires(f.alert, f.name), "before the fault")
				d.fresh()

				f.cause(r, d)
				eventually(t, 3*time.Minute, func() bool { return p.fires(f.alert, f.name) }, "%s fires", f.alert)
				eventually(t, time.Minute, func() bool { return strings.Contains(d.status().Summary, f.says) }, "the status says: %s", f.says)
				if !f.fresh {
					eventually(t, time.Minute, func() bool { return d.metric("walpurge_fresh") == "0" && d.run("status").code == 1 }, "metric and command say the same")
					eventually(t, time.Minute, func() bool { return p.fires("WalpurgeStale", f.name) }, "it pages")
					want := []string{"WalpurgeStale"}
					if f.alone {
						want = []string{f.alert, "WalpurgeStale"}
					}
					eventually(t, time.Minute, func() bool { return slices.Equal(want, pages(t, inhibit, p.firing(f.name))) }, "one cause raises one page")
				}
				for _, sink := range f.refuses {
					o := d.run("wait", r.lsn(), "--sink", sink, "--timeout", "20s")
					require.Equal(t, 1, o.code)
					require.Contains(t, o.stderr, f.refusal())
					require.Contains(t, o.stderr, sink)
				}
				for _, sink := range f.takes {
					require.Zero(t, d.run("wait", r.lsn(), "--sink", sink, "--timeout", "60s").code, sink)
				}
				if f.mend != nil {
					f.mend(r, d)
				}
				eventually(t, 2*time.Minute, func() bool { return f.windowed || !p.fires(f.alert, f.name) }, "%s ends", f.alert)
				eventually(t, time.Minute, func() bool {
					s := d.status().Summary
					return strings.HasPrefix(s, "FRESH") && d.metric("walpurge_fresh") == "1" && (f.windowed || !strings.Contains(s, f.says))
				}, "the status is as before")
			})
		}
	})
}
