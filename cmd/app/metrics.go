package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("walpurge_"+name, help, labels, nil)
}

// What is read off the parts at every scrape, so that no value can go stale.
var (
	lagSeconds    = desc("lag_seconds", "Age of the oldest committed change that may not have passed the stage; an upper bound.", "stage", "target")
	lagBytes      = desc("lag_bytes", "Log between the stage and the newest position known.", "stage", "target")
	watermarkLSN  = desc("watermark_lsn", "Position of the stage in the log, as a byte offset.", "stage", "target")
	oldest        = desc("oldest_unpurged_seconds", "Age of the oldest commit that a lane holds and has not purged or has parked; 0 without one.", "sink")
	backlog       = desc("backlog", "Messages of the stream that a lane has not acknowledged.", "sink")
	parked        = desc("parked", "Messages with invalidations that a sink refused for good.", "sink")
	streamBytes   = desc("stream_bytes", "Size of the stream.")
	streamLimit   = desc("stream_limit_bytes", "Limit of the stream's size.")
	diskFree      = desc("data_dir_free_bytes", "Room on the disk of the embedded stream; absent without one.")
	replayHorizon = desc("replay_horizon_seconds", "Age of the oldest message in the stream.")
	slotRetained  = desc("slot_retained_bytes", "Log that the slot holds back on the server.")
	slotSafe      = desc("slot_safe_bytes", "Log that may still be written before the slot is lost; absent without a limit.")
	slotBehind    = desc("slot_restart_lag_bytes", "Log that the slot holds back for transactions that were open at the confirmed position.")
	slotState     = desc("slot_state", "1 for the wal_status of the slot.", "state")
	throttled     = desc("throttled_seconds_total", "Time that a lane has paused because the provider asked for it.", "sink")
	budget        = desc("budget_remaining", "Calls that the tightest limit of a sink allows at once; negative while calls wait. Absent without a limit.", "sink")
	drain         = desc("drain_seconds", "Estimate of the time that a lane's backlog takes; absent while there is nothing to tell from.", "sink")
	heartbeatAge  = desc("heartbeat_age_seconds", "Time since the newest heartbeat that came back was written.")
	fresh         = desc("fresh", "1 if every change older than 10 seconds is purged, nothing is parked, no problem is open and no sink fails: what the status says.")
	ruleProblems  = desc("rule_problems", "Problems of tables, columns and publication that leave what a rule purges stale until a person acts.", "rule")
	pubProblems   = desc("publication_problems", "Watched tables that are not published, and other faults of the publication that a person must correct.")
	ignored       = desc("ignored_messages_total", "Messages in the log with walpurge's own prefixes that were ignored, because another role or pipeline wrote them.", "reason")
	nearMisses    = desc("pattern_near_misses", "Tables that match a pattern of the rules only nearly, so that they are not watched.")
	replicasAway  = desc("replicas_away", "Read replicas that kept purges waiting for too long, so that they do not wait for them.")
	leader        = desc("leader", "1 if this process streams from the slot.")
	readerMode    = desc("reader_mode", "1 for the way in which the reader reads: stream, sql while it catches up, none while it does not read.", "mode")
	catchUpLeft   = desc("catchup_bytes_remaining", "Log that is left to read while the reader catches up; 0 otherwise.")
	catchUpTime   = desc("catchup_seconds_remaining", "Estimate of the time that catching up takes; 0 otherwise, absent while there is nothing to tell from.")
	catchUpChunks = desc("catchup_chunks_total", "Parts of a backlog that were read through SQL: done, cancelled because they were not taken in time, refused by the server.", "result")
	catchUpRead   = desc("catchup_read_bytes_total", "Log that the server has read for catching up, parts of it several times.")
	catchUpDone   = desc("catchup_drained_bytes_total", "Log that the slot was advanced by while catching up.")
	buildInfo     = desc("build_info", "Always 1; labels tell the build.", "version")
	readerBlocked = desc("reader_blocked_seconds_total", "Time that the reader waited because the stream took no messages.", "reason")
)

// registerBills exposes what providers bill by the piece, which is CloudFront alone.
func registerBills(reg prometheus.Registerer, targets []target) {
	for _, t := range targets {
		if t.Billed != nil {
			reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Namespace: "walpurge", Name: "cloudfront_paths_total", Help: "Paths, prefixes and tags that CloudFront accepted, each of which it bills.",
				ConstLabels: prometheus.Labels{"sink": t.spec.Name},
			}, func() float64 { return float64(t.Billed()) }))
		}
	}
}

// slotStates are the values of wal_status, from good to bad.
var slotStates = []string{"reserved", "extended", "unreserved", "lost"}

type collector struct{ app *App }

// Describe sends nothing: the collector is unchecked, since some of its values
// are absent at times.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the parts; it takes at most two seconds.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	a := c.app
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	now := time.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := a.read(ctx)
	gauge(fresh, bit(s.Fresh))
	problems := make(map[string]int)
	for _, p := range s.Problems {
		if !p.Covered {
			for _, rule := range p.Rules {
				problems[rule]++
			}
		}
	}
	for _, r := range s.Rules {
		gauge(ruleProblems, float64(problems[r.Name]), r.Name)
	}
	for _, r := range a.board.Snapshot() {
		labels := []string{string(r.Stage), r.Target}
		gauge(watermarkLSN, float64(r.Position.LSN), labels...)
		gauge(lagBytes, float64(a.board.LagBytes(r.Mark)), labels...)
		d := a.board.Lag(r.Mark, now)
		if d < 0 {
			// Nothing is known since the start: as old as the process.
			d = now.Sub(a.started)
		}
		gauge(lagSeconds, s.refused.lag(r.Mark, d, now).Seconds(), labels...)
	}
	for i, l := range a.lanes {
		if s.knowsBacklog[i] {
			gauge(backlog, float64(s.Sinks[i].Backlog), l.spec.Name)
		}
		if s.Sinks[i].DrainSeconds != nil {
			gauge(drain, *s.Sinks[i].DrainSeconds, l.spec.Name)
		}
		if tokens, limited := l.Budget(); limited {
			gauge(budget, tokens, l.spec.Name)
		}
		ch <- prometheus.MustNewConstMetric(throttled, prometheus.CounterValue, l.Throttled().Seconds(), l.spec.Name)
		if s.knowsParked {
			gauge(parked, float64(s.Sinks[i].Parked), l.spec.Name)
		}
		age := 0.0
		if at, some := l.Oldest(); some {
			age = max(0, now.Sub(at).Seconds())
		}
		if d := a.board.Lag(watermark.Mark{Stage: watermark.Purged, Target: l.spec.Name}, now); age > 0 && d > 0 {
			age = max(age, d.Seconds())
		}
		if at, some := s.refused.since[l.spec.Name]; some {
			age = max(age, now.Sub(at).Seconds())
		}
		gauge(oldest, age, l.spec.Name)
	}
	if s.knowsUsage {
		gauge(streamBytes, float64(s.Stream.Bytes))
		gauge(streamLimit, float64(s.Stream.LimitBytes))
		gauge(replayHorizon, s.Stream.ReplayHorizonSeconds)
	}
	if s.Stream.DiskFreeBytes != nil {
		gauge(diskFree, float64(*s.Stream.DiskFreeBytes))
	}
	slot, seen := a.reader.Slot()
	if seen {
		gauge(slotRetained, float64(slot.Retained))
		gauge(slotBehind, float64(slot.RestartLag))
		if slot.Safe != nil {
			gauge(slotSafe, float64(*slot.Safe))
		}
	}
	for _, state := range slotStates {
		gauge(slotState, bit(seen && slot.Status == state), state)
	}
	if slot.Heartbeat.IsZero() {
		slot.Heartbeat = a.started
	}
	gauge(heartbeatAge, now.Sub(slot.Heartbeat).Seconds())
	away := 0
	for _, r := range s.Replicas {
		if r.Away {
			away++
		}
	}
	gauge(replicasAway, float64(away))
	gauge(leader, bit(s.Reader.Streams()))
	gauge(pubProblems, float64(len(a.unpublished())))
	gauge(nearMisses, float64(a.reader.NearMisses()))
	for reason, n := range a.reader.IgnoredMessages() {
		ch <- prometheus.MustNewConstMetric(ignored, prometheus.CounterValue, float64(n), reason)
	}
	for reason, d := range a.publisher.BlockedFor() {
		ch <- prometheus.MustNewConstMetric(readerBlocked, prometheus.CounterValue, d.Seconds(), reason)
	}
	a.collectCatchUp(ch, gauge)
	gauge(buildInfo, 1, a.opts.Version)
}

// collectCatchUp exposes in which way the reader reads, and how far a backlog is read.
func (a *App) collectCatchUp(ch chan<- prometheus.Metric, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	phase := a.reader.State().Phase
	gauge(readerMode, bit(phase == postgres.Streaming), "stream")
	gauge(readerMode, bit(phase == postgres.CatchingUp), "sql")
	gauge(readerMode, bit(!phase.Reads()), "none")
	c, now := a.reader.CatchUp()
	if !now {
		c.Left, c.Remaining = 0, 0
	}
	gauge(catchUpLeft, float64(c.Left))
	if c.Remaining >= 0 {
		gauge(catchUpTime, c.Remaining.Seconds())
	}
	for result, n := range a.reader.Chunks() {
		ch <- prometheus.MustNewConstMetric(catchUpChunks, prometheus.CounterValue, float64(n), result)
	}
	ch <- prometheus.MustNewConstMetric(catchUpRead, prometheus.CounterValue, float64(c.Read))
	ch <- prometheus.MustNewConstMetric(catchUpDone, prometheus.CounterValue, float64(c.Drained))
}

func bit(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
