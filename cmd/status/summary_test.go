package status

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func num[T any](n T) *T { return &n }

// streaming is a pipeline in which nothing is wrong, with the sinks given.
func streaming(sinks ...Sink) Status {
	return Status{Reader: Reader{State: "streaming", Compared: true}, Stream: Stream{LimitBytes: 2 << 30}, Sinks: sinks}
}

// sink is a lane with a lag in seconds, changed as a case wants it.
func sink(name string, lag float64, change ...func(*Sink)) Sink {
	s := Sink{Name: name, State: "ok", QueueLag: num(lag), Coarse: "--all"}
	for _, c := range change {
		c(&s)
	}
	return s
}

func blocked(why string) func(*Sink) {
	return func(s *Sink) { s.State, s.Class, s.Error = "blocked", "transient", why }
}
func gated(by ...string) func(*Sink) { return func(s *Sink) { s.State, s.Gates = "gated", by } }
func waiting(n uint64) func(*Sink)   { return func(s *Sink) { s.Backlog = n } }
func state(name string) func(*Sink)  { return func(s *Sink) { s.State = name } }
func drains(seconds, perSecond float64) func(*Sink) {
	return func(s *Sink) { s.DrainSeconds, s.RequestsPerSecond = &seconds, perSecond }
}
func throttled(s *Sink) {
	s.State, s.Class, s.Kind, s.Error, s.Coarse = "throttled", "throttled", "cloudflare", "cloudflare: HTTP 429: slow down", "--tag products"
}
func neverPurged(s *Sink) { s.QueueLag = nil }

func TestSummarize(t *testing.T) {
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	reader := func(r Reader, sinks ...Sink) Status {
		s := streaming(sinks...)
		s.Reader = r
		s.Reader.Compared = true
		return s
	}
	led := func(leader cdc.Leader) Status {
		s := reader(Reader{State: "standby", Since: since, Error: `slot "shop" is in use`})
		s.Leader = leader
		return s
	}
	with := func(s Status, change func(*Status)) Status { change(&s); return s }
	cache := sink("cache", 1)
	for _, tc := range []struct {
		name  string
		s     Status
		fresh bool
		want  string
	}{
		{"fresh", streaming(sink("cache", 0.3), sink("edge", 0.84)), true, "FRESH: every sink within 0.8 s"},
		{"fresh by a hair", streaming(sink("cache", 9.94)), true, "FRESH: every sink within 9.9 s"},
		{"no sinks", streaming(), true, "FRESH: every sink within 0.0 s"},
		{"stale by a hair", streaming(sink("cache", 9.96)), false, "STALE 10 s at cache: catching up. Try: walpurge status --watch"},
		{"gated for a moment", streaming(cache, sink("edge", 3, gated("visible"), waiting(1))), true, "FRESH: every sink within 3.0 s"},
		{"catching up", streaming(cache, sink("edge", 60, waiting(1234567), drains(600, 20))), false,
			"STALE 1m0s at edge: catching up, 1,234,567 messages waiting, 10 min at 20 req/s. Try: walpurge status --watch"},
		{"what was purged came back", streaming(cache, sink("edge", 1, func(s *Sink) { s.Restoring = "failover" })), false,
			"STALE at edge: what was purged may have come back (failover) and is purged again. Try: walpurge status --watch"},
		{"not asked since the start", streaming(sink("cache", 1, func(s *Sink) { s.Restoring, s.QueueLag = RestoringUnknown, nil })), false,
			"UNKNOWN at cache: whether the cache holds again what was purged, it has not answered since the start. Try: walpurge status --watch"},
		{"not asked, and blocked", streaming(sink("cache", 1, blocked("no route"), func(s *Sink) { s.Restoring, s.QueueLag = RestoringUnknown, nil })), false,
			"UNKNOWN at cache: nothing has been purged since the start, no route. Try: walpurge check"},
		{"a return would go unnoticed", streaming(sink("cache", 1, func(s *Sink) { s.Untold = "INFO: NOPERM" })), true,
			"FRESH: every sink within 1.0 s; it would go unnoticed if cache came back with what was purged. Try: walpurge check"},
		{"came back lately", with(streaming(cache), func(s *Status) {
			s.At, s.Incidents = since.Add(time.Minute), []Incident{{At: since, Kind: "history", Sink: "cache", Reason: "restarted"}}
		}), true, "FRESH: every sink within 1.0 s; cache may have held again what was purged (restarted), noticed 1m0s ago. Try: walpurge status --watch"},
		{"not compared yet", with(streaming(cache), func(s *Status) { s.Reader.Compared = false }), false,
			"UNKNOWN: tables and rules have not been compared yet. Try: walpurge status --watch"},

		{"throttled", streaming(cache, sink("edge", 970, throttled, waiting(18200), drains(2760, 4))), false,
			"STALE 16m10s at edge: throttled by Cloudflare (429), 18,200 messages waiting, 46 min at 4 req/s. Try: walpurge purge --sink edge --tag products --supersede --dry-run"},
		{"throttled since 31 s", streaming(cache, sink("edge", 31, throttled, waiting(18200), drains(2760, 4))), false,
			"STALE 31 s at edge: throttled by Cloudflare (429), 18,200 messages waiting, 46 min at 4 req/s. Try: walpurge status --watch"},
		{"throttled since 14m59s", streaming(cache, sink("edge", 899, throttled, waiting(18200), drains(2760, 4))), false,
			"STALE 14m59s at edge: throttled by Cloudflare (429), 18,200 messages waiting, 46 min at 4 req/s. Try: walpurge status --watch"},
		{"throttled, and the stream fills", with(streaming(cache, sink("edge", 31, throttled, waiting(18200), drains(2760, 4))), func(s *Status) { s.Stream.Bytes = 3 << 29 }), false,
			"STALE 31 s at edge: throttled by Cloudflare (429), 18,200 messages waiting, 46 min at 4 req/s. Try: walpurge purge --sink edge --tag products --supersede --dry-run"},
		{"long throttled, soon through", streaming(sink("edge", 970, throttled, waiting(42), drains(20.5, 0.333))), false,
			"STALE 16m10s at edge: throttled by Cloudflare (429), 42 messages waiting, 20 s at 0.33 req/s. Try: walpurge status --watch"},
		{"throttled at its newest attempt", streaming(cache, sink("edge", 2, throttled, waiting(1))), false,
			"STALE 2 s at edge: throttled by Cloudflare (429), 1 message waiting. Try: walpurge status --watch"},
		{"throttled, and nothing waits", streaming(cache, sink("edge", 2, throttled)), true, "FRESH: every sink within 2.0 s"},
		{"throttled without a code", streaming(sink("edge", 20, state("throttled"), func(s *Sink) { s.Kind, s.Error = "webhook", "slow down" })), false,
			"STALE 20 s at edge: throttled by the webhook: slow down. Try: walpurge status --watch"},

		{"blocked for a moment", streaming(sink("cache", 0.4, blocked("connection refused"), waiting(1))), false,
			"STALE 0 s at cache: connection refused, 1 message waiting. Try: walpurge check"},
		{"blocked, and the edge waits", streaming(sink("cache", 57, blocked("connection refused"), waiting(7)), sink("edge", 57, gated("cache"), waiting(7), drains(28, 1))), false,
			"STALE 57 s at cache: connection refused, 7 messages waiting; edge waits for it. Try: walpurge check"},
		{"two wait", streaming(sink("cache", 57, blocked("x")), sink("inner", 57, gated("cache")), sink("edge", 57, gated("visible", "inner"))), false,
			"STALE 57 s at cache: x; inner and edge wait for it. Try: walpurge check"},
		{"the edge is blocked itself", streaming(sink("cache", 57, blocked("x")), sink("edge", 57, blocked("y"))), false,
			"STALE 57 s at cache: x. Try: walpurge check; STALE 57 s at edge: y. Try: walpurge check"},
		{"the cause comes later in the file", streaming(sink("edge", 57, gated("cache")), sink("cache", 57, blocked("x"))), false,
			"STALE 57 s at cache: x; edge waits for it. Try: walpurge check"},
		{"blocked for good", streaming(cache, sink("edge", 20, blocked("HTTP 403"), func(s *Sink) { s.Class = "lane" }, waiting(7), drains(9000, 1))), false,
			"STALE 20 s at edge: HTTP 403, and no retry helps until that is corrected, 7 messages waiting. Try: walpurge check"},
		{"one kind is stuck", streaming(sink("edge", 970, blocked("purges of tags fail since 2026-11-20T12:00:00Z, while other kinds are purged: HTTP 403"), func(s *Sink) {
			s.Class, s.OthersGo, s.Stuck = "lane", true, []Stuck{{Kind: "tag", Since: since, Values: 182}}
		}, waiting(7000))), false,
			"STALE 16m10s at edge: purges of tags fail since 2026-11-20T12:00:00Z, while other kinds are purged: HTTP 403, and no retry helps until that is corrected, 182 values waiting. Try: walpurge check"},
		{"one kind is stuck since before the start", streaming(sink("edge", 0, neverPurged, blocked("purges of tags fail since 2026-11-20T12:00:00Z, while other kinds are purged: HTTP 403"), func(s *Sink) {
			s.OthersGo, s.Stuck = true, []Stuck{{Kind: "tag", Since: since, Values: 182}}
		})), false,
			"UNKNOWN at edge: not everything has been purged since the start, purges of tags fail since 2026-11-20T12:00:00Z, while other kinds are purged: HTTP 403. Try: walpurge check"},
		{"blocked without a word", streaming(sink("edge", 20, state("blocked"))), false, "STALE 20 s at edge: blocked. Try: walpurge check"},
		{"gated by a sink that works", streaming(cache, sink("edge", 20, gated("cache"), waiting(7))), false,
			"STALE 20 s at edge: gated by cache, 7 messages waiting. Try: walpurge status --watch"},
		{"gated by visibility", streaming(sink("edge", 20, gated("visible"), waiting(1))), false,
			"STALE 20 s at edge: gated by visible, 1 message waiting. Try: walpurge check"},
		{"paused", streaming(sink("cache", 1, state("paused")), sink("edge", 20, state("paused"), waiting(7))), false,
			"STALE 20 s at edge: paused on request, 7 messages waiting. Try: walpurge resume --sink edge"},
		{"paused long ago", streaming(sink("edge", 20, state("paused"), waiting(7), func(s *Sink) {
			s.PausedFor, s.PausedUntil = 2*time.Hour, since.Add(time.Hour)
		})), false,
			"STALE 20 s at edge: paused on request 2h0m0s ago until 2026-11-20T13:00:00Z, 7 messages waiting. Try: walpurge resume --sink edge"},
		{"paused and idle", streaming(sink("edge", 1, state("paused"), func(s *Sink) { s.PausedFor = time.Minute })), true,
			"FRESH: every sink within 1.0 s; edge is paused on request 1m0s ago. Try: walpurge resume --sink edge"},
		{"the inner sink is paused", streaming(sink("cache", 20, state("paused"), waiting(7)), sink("edge", 20, gated("cache"))), false,
			"STALE 20 s at cache: paused on request, 7 messages waiting; edge waits for it. Try: walpurge resume --sink cache"},
		{"flushing", streaming(sink("edge", 1, state("flushing"), waiting(7))), false,
			"STALE 1 s at edge: being flushed, 7 messages waiting. Try: walpurge status --watch"},
		{"parked", streaming(cache, sink("edge", 0, func(s *Sink) { s.Parked = 3 })), false,
			"STALE at edge: 3 messages parked and not purged. Try: walpurge parked list --sink edge"},
		{"one parked", streaming(sink("edge", 0, func(s *Sink) { s.Parked = 1 })), false,
			"STALE at edge: 1 message parked and not purged. Try: walpurge parked list --sink edge"},
		{"unknown", streaming(sink("edge", 0, neverPurged)), false, "UNKNOWN at edge: nothing has been purged since the start. Try: walpurge status --watch"},
		{"never purged", streaming(sink("edge", 0, neverPurged, blocked("connection refused"))), false,
			"UNKNOWN at edge: nothing has been purged since the start, connection refused. Try: walpurge check"},

		{"not streaming", reader(Reader{State: "connecting", Since: since, Error: "connection refused"}, sink("cache", 57), sink("edge", 57, neverPurged)), false,
			"NOT STREAMING since 2026-11-20T12:00:00Z, connecting: connection refused. Try: walpurge check"},
		{"not streaming, and a sink is down", reader(Reader{State: "connecting", Since: since, Error: "x"}, sink("cache", 57), sink("edge", 57, blocked("y"), waiting(1))), false,
			"NOT STREAMING since 2026-11-20T12:00:00Z, connecting: x. Try: walpurge check; STALE 57 s at edge: y, 1 message waiting. Try: walpurge check"},
		{"not streaming, but parked", reader(Reader{State: "connecting", Since: since}, sink("edge", 57, func(s *Sink) { s.Parked = 1 })), false,
			"NOT STREAMING since 2026-11-20T12:00:00Z, connecting. Try: walpurge check; STALE 57 s at edge: catching up. Try: walpurge status --watch"},
		{"standing by", reader(Reader{State: "standby", Since: since, Error: `slot "shop" is in use`}), false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: slot "shop" is in use. Try: walpurge status --addr HOST:PORT, of the process that has the slot`},
		{"standing by, with sinks of which only the leader knows", with(led(cdc.Leader{}), func(s *Status) {
			s.Sinks = []Sink{sink("cache", 0, neverPurged), sink("edge", 99, blocked("x")), sink("inner", 0, func(s *Sink) { s.Restoring = RestoringUnknown })}
		}), false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: slot "shop" is in use. Try: walpurge status --addr HOST:PORT, of the process that has the slot`},
		{"standing by, with a leader", led(cdc.Leader{Address: "10.0.0.7:7468", Host: "node-a"}), false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: 10.0.0.7:7468 on host node-a leads. Try: walpurge status --addr 10.0.0.7:7468`},
		{"standing by, with a leader whose address has the host", led(cdc.Leader{Address: "node-a:7468", Host: "node-a"}), false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: node-a:7468 leads. Try: walpurge status --addr node-a:7468`},
		{"standing by, with a leader without an address", led(cdc.Leader{Host: "node-a"}), false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: a process on host node-a leads. Try: walpurge status --addr HOST:PORT, of the process that has the slot`},
		{"stream full", reader(Reader{State: "streaming", Blocked: "stream_full"}, sink("cache", 600), sink("edge", 600, state("paused"), waiting(90000))), false,
			"STALE 10m0s at edge: paused on request, 90,000 messages waiting; nothing is read, because the stream is full (2,048 MiB) of what waits for edge. Try: walpurge resume --sink edge"},
		{"stream full of what waits for a gate", reader(Reader{State: "streaming", Blocked: "stream_full"}, sink("cache", 600, blocked("x"), waiting(7)), sink("edge", 600, gated("cache"), waiting(9))), false,
			"STALE 10m0s at cache: x, 7 messages waiting; edge waits for it; nothing is read, because the stream is full (2,048 MiB) of what waits for edge. Try: walpurge check"},
		{"stream full of nothing", reader(Reader{State: "streaming", Blocked: "stream_full"}, sink("cache", 600)), false,
			"STALE: nothing is read, because the stream is full (2,048 MiB). Try: walpurge status --watch"},
		{"denied acknowledgements", func() Status {
			s := reader(Reader{State: "streaming", Compared: true}, sink("cache", 0))
			s.Stream.Denied = "the user may not publish to $JS.ACK.x"
			return s
		}(), false, "STALE: the NATS server refuses what the daemon needs: the user may not publish to $JS.ACK.x. Try: walpurge check"},
		{"stream out of reach", reader(Reader{State: "streaming", Blocked: "nats_unreachable"}, sink("cache", 60)), false,
			"STALE: the reader waits, nats_unreachable. Try: walpurge check"},
		{"a replica is away", with(streaming(cache), func(s *Status) {
			s.Replicas = []Replica{{Name: "r1"}, {Name: "r2", Away: true, Error: "x"}, {Name: "r3", Away: true}}
		}), false,
			"STALE for readers of replica r2: purges do not wait for it, x. Try: walpurge check; " +
				"STALE for readers of replica r3: purges do not wait for it, it is far behind. Try: walpurge status --watch"},

		{"a problem", with(streaming(cache), func(s *Status) { s.Problems = []Problem{{Sinks: []string{"cache", "edge"}, Text: "table t is gone"}} }), false,
			"STALE at cache and edge: table t is gone. Try: walpurge check"},
		{"a problem that is covered", with(streaming(cache), func(s *Status) { s.Problems = []Problem{{Covered: true, Text: "x"}} }), true, "FRESH: every sink within 1.0 s"},
		{"many problems", with(streaming(cache), func(s *Status) {
			for _, text := range strings.Split("abcde", "") {
				s.Problems = append(s.Problems, Problem{Text: text, Sinks: []string{"cache"}})
			}
		}), false, "STALE at cache: a; STALE at cache: b; STALE at cache: c (and 2 more problems). Try: walpurge check"},
		{"four problems", with(streaming(), func(s *Status) {
			s.Problems = []Problem{{Text: "a"}, {Text: "b"}, {Text: "c"}, {Text: "d"}, {Covered: true}}
		}), false,
			"STALE: a; STALE: b; STALE: c (and 1 more problem). Try: walpurge check"},
		{"a problem while nothing streams", with(reader(Reader{State: "connecting", Since: since}), func(s *Status) { s.Problems = []Problem{{Text: "a"}} }), false,
			"STALE: a. Try: walpurge check; NOT STREAMING since 2026-11-20T12:00:00Z, connecting. Try: walpurge check"},

		{"slot near its limit", with(streaming(sink("edge", 0.84)), func(s *Status) {
			s.Slot = Slot{Name: "shop", State: "extended", RetainedBytes: 800 << 20, SafeBytes: num[int64](200 << 20)}
		}), true, "FRESH: every sink within 0.8 s; slot shop is near its limit (extended): 800 MiB held back, 200 MiB until it is lost. " +
			`Try: psql "$ADMIN_URL" -c "ALTER SYSTEM SET max_slot_wal_keep_size = '2000MB'" -c "SELECT pg_reload_conf()"`},
		{"slot with room", with(streaming(sink("edge", 0.84)), func(s *Status) {
			s.Slot = Slot{Name: "shop", State: "extended", RetainedBytes: 100, SafeBytes: num[int64](900)}
		}), true, "FRESH: every sink within 0.8 s"},
		{"disk nearly full", with(streaming(cache), func(s *Status) { s.Stream.DiskFreeBytes = num[int64](1 << 20) }), true,
			"FRESH: every sink within 1.0 s; the disk of data_dir has 1 MiB left, and the stream may grow by 2,048 MiB; once it is full the daemon ends. Try: df -h, or a smaller stream.max_bytes"},
		{"flushed lately", with(streaming(cache), func(s *Status) {
			s.At, s.Incidents = since, []Incident{{Kind: "gap", Reason: "table", At: since}, {Kind: "gap", Reason: "skipped", At: since.Add(-30 * time.Second)}}
		}), true, "FRESH: every sink within 1.0 s; every sink was flushed 30 s ago, after a gap (skipped). Try: walpurge status --watch"},
		{"not reloaded", with(streaming(cache), func(s *Status) { s.ReloadError = "x" }), true,
			"FRESH: every sink within 1.0 s; the newest files are not in service: x. Try: walpurge check"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fresh, sentence := Summarize(&tc.s)
			require.Equal(t, tc.want, sentence)
			require.Equal(t, tc.fresh, fresh)
		})
	}
}

// No state of a sink that purges nothing is ever called fresh, and nothing that purges is
// proposed to a sink that takes no purge.
func TestSummarizeEveryState(t *testing.T) {
	for _, name := range []string{"ok", "gated", "throttled", "blocked", "flushing", "paused", "", "new"} {
		for _, lag := range []*float64{nil, num(0.0), num(9.0), num(11.0), num(10000.0)} {
			for _, backlog := range []uint64{0, 1} {
				s := streaming(Sink{Name: "edge", State: name, QueueLag: lag, Backlog: backlog, Coarse: "--all", DrainSeconds: num(1e6)})
				fresh, sentence := Summarize(&s)
				if lag == nil || *lag > 10 || name == "blocked" || name == "flushing" || name == "throttled" && backlog > 0 {
					require.False(t, fresh, sentence)
				}
				require.Equal(t, fresh, strings.HasPrefix(sentence, "FRESH"), sentence)
				if strings.Contains(sentence, "walpurge purge") {
					require.Contains(t, []string{"ok", "throttled"}, name)
					require.GreaterOrEqual(t, *lag, 900.0)
					require.True(t, strings.HasSuffix(sentence, " --dry-run"), sentence)
				}
			}
		}
	}
}

func TestCanDrain(t *testing.T) {
	all := []Sink{sink("cache", 1, blocked("x")), sink("edge", 1, gated("cache")), sink("far", 1, gated("edge")), sink("other", 1, gated("visible")),
		sink("held", 1, state("paused")), sink("after", 1, gated("held")), sink("slow", 1, throttled), sink("behind", 1, gated("slow"))}
	var can []string
	for i := range all {
		if CanDrain(all, i) {
			can = append(can, all[i].Name)
		}
	}
	require.Equal(t, []string{"other", "slow", "behind"}, can)
}

func TestCoarseFlags(t *testing.T) {
	tag := func(values ...string) (plan []invalidation.Invalidation) {
		for _, v := range values {
			plan = append(plan, invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
		}
		return plan
	}
	require.Equal(t, "--tag products", CoarseFlags(tag("products")))
	require.Equal(t, "--all", CoarseFlags(tag("products", "users")))
	require.Equal(t, "--all", CoarseFlags(tag("it's")), "a shell would read it otherwise")
	require.Equal(t, "--all", CoarseFlags([]invalidation.Invalidation{{Kind: invalidation.Everything}}))
}

// TestAStuckReaderIsNotFresh, however short the lag is.
func TestAStuckReaderIsNotFresh(t *testing.T) {
	s := streaming(sink("cache", 0.1), sink("edge", 0.1))
	fresh, _ := Summarize(&s)
	require.True(t, fresh, "control")
	s.Reader.Stuck = "the rules have been evaluating a change of public.t for 5 s and more"
	fresh, sentence := Summarize(&s)
	require.False(t, fresh)
	require.Equal(t, "STALE: nothing is read, the rules have been evaluating a change of public.t for 5 s and more; restart the daemon. Try: walpurge status --watch", sentence)
}
