package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// reading is a status with what could not be read for it.
type reading struct {
	status.Status
	refused                 parkedCounts
	knowsParked, knowsUsage bool
	knowsBacklog            []bool // by sink
}

// Status collects the daemon's condition.
func (a *App) Status(ctx context.Context) status.Status { return a.read(ctx).Status }

func (a *App) read(ctx context.Context) reading {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	now := time.Now()
	state := a.reader.State()
	found, compared := a.reader.Problems()
	set := a.set.Load()
	s := reading{Status: status.Status{
		Pipeline: a.cfg.Pipeline, Version: a.opts.Version, Started: a.started, Leader: a.leader(ctx),
		Reader: status.Reader{State: string(state.Phase), Since: state.Since, Error: state.Err, Blocked: a.publisher.Blocked(), Stuck: a.stall.why(), Compared: compared,
			SynchronousStandbyNames: a.reader.SyncNames()},
		Problems: status.Problems(set, a.cfg.SinkNames(), found),
	}}
	if c, now := a.reader.CatchUp(); now {
		s.Reader.CatchUp = &status.CatchUp{LeftBytes: c.Left, TotalBytes: c.Total, ChangesPerSecond: c.ChangesPerSecond, Seconds: seconds(c.Remaining)}
	}
	// How far the log has grown is known only while the server tells.
	seen := a.board.ServerSeen()
	inSight := state.Phase.Reads() && now.Sub(seen) < outOfSight
	refused, err := a.parkedNow(ctx)
	if s.refused, s.knowsParked = refused, err == nil; err != nil {
		a.log.Debug("read parked", "err", err)
	}
	for _, l := range a.lanes {
		if r, some := l.Restoring(); some {
			s.refused.due(l.spec.Name, r.Since)
		}
	}
	for _, r := range a.board.Snapshot() {
		w := status.Watermark{
			Stage: string(r.Stage), Target: r.Target, LSN: r.Position.LSN, Timeline: r.Position.Timeline,
			LagSeconds: seconds(refused.lag(r.Mark, a.board.Lag(r.Mark, now), now)),
		}
		if inSight {
			behind := a.board.LagBytes(r.Mark)
			w.LagBytes = &behind
		}
		s.Watermarks = append(s.Watermarks, w)
	}
	worked, err := readWork(a.worked)
	if err != nil {
		a.log.Debug("read counters", "err", err)
	}
	s.At, s.Changes, s.Rules, s.Incidents = now.UTC(), worked.changes, worked.of(set), a.incidents.newestFirst()
	plans := *a.plans.Load()
	for i, l := range a.lanes {
		st := l.Status()
		backlog, err := l.consumer.Backlog(ctx)
		if err != nil {
			a.log.Debug("read backlog", "err", err)
		}
		mark := watermark.Mark{Stage: watermark.Purged, Target: l.spec.Name}
		own := a.board.Lag(mark, now)
		sink := status.Sink{
			Name: l.spec.Name, Kind: l.spec.Kind(), State: string(st.State), Error: st.Err, Class: st.Class, Gates: st.Gates, Backlog: backlog,
			Parked: refused.counts[l.spec.Name], LagSeconds: seconds(s.refused.lag(mark, own, now)), QueueLag: seconds(own),
			Coarse: status.CoarseFlags(plans[i]), Work: worked.sinks[l.spec.Name],
		}
		for _, k := range st.Stuck {
			sink.Stuck = append(sink.Stuck, status.Stuck{Kind: k.Kind.String(), Since: k.Since.UTC(), Error: k.Err, Class: k.Class, Values: k.Values})
		}
		sink.OthersGo = st.OthersGo
		if r, some := l.Restoring(); some {
			sink.Restoring = cmp.Or(r.Reason, status.RestoringUnknown)
		}
		if why := l.cache.untold.Load(); why != nil {
			sink.Untold = *why
		}
		if p := l.paused.Load(); p != nil {
			sink.PausedSince, sink.PausedUntil, sink.PausedFor = &p.Since, p.Until, max(now.Sub(p.Since), time.Second)
		}
		if d, known := l.Drain(backlog); known && err == nil {
			sink.DrainSeconds, sink.RequestsPerSecond = seconds(d.Time), d.PerSecond
		}
		s.Sinks, s.knowsBacklog = append(s.Sinks, sink), append(s.knowsBacklog, err == nil)
	}
	for i := range s.Sinks {
		if !status.CanDrain(s.Sinks, i) {
			s.Sinks[i].DrainSeconds, s.Sinks[i].RequestsPerSecond = nil, 0
		}
	}
	for _, w := range a.warms {
		s.Warms = append(s.Warms, w.status(worked.warmed[w.spec.Name]))
	}
	s.Replicas = a.replicaStates()
	slot, _ := a.reader.Slot()
	s.InactiveSlots = a.reader.InactiveSlots()
	s.Slot = status.Slot{Name: slot.Name, State: slot.Status, RetainedBytes: slot.Retained, SafeBytes: slot.Safe}
	if u, err := a.stream.Usage(ctx); err == nil {
		s.knowsUsage = true
		s.Stream = status.Stream{Bytes: u.Bytes, LimitBytes: u.Limit, Messages: u.Messages, ReplayHorizonSeconds: u.Horizon.Seconds()}
	}
	s.Stream.Denied = a.natsErrors.denial()
	if free, known := a.diskFree(); known {
		s.Stream.DiskFreeBytes = &free
	}
	s.Suspicions = status.Suspicions(a.hits.lastHour(now))
	s.ReloadError = a.reloads.failure()
	if loaded := a.loaded.Load(); loaded != nil {
		s.ConfigDigest = joined(*loaded)
	}
	s.Fresh, s.Summary = status.Summarize(&s.Status)
	return s
}

// outOfSight is how old the newest word of the server may be before its log counts as
// unknown. It is asked for its end once a second.
const outOfSight = 10 * time.Second

// diskFree is what the disk under the embedded stream has left for the daemon.
func (a *App) diskFree() (bytes int64, known bool) {
	var fs unix.Statfs_t
	if a.server == nil || unix.Statfs(a.cfg.DataDir, &fs) != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true
}

// seconds is nil for a lag that is not known.
func seconds(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

// adminConfig gives the listener what it shows.
func (a *App) adminConfig(reload func(context.Context) error) admin.Config {
	return admin.Config{
		Status:    func(ctx context.Context) any { return a.Status(ctx) },
		Healthy:   a.alive,
		Ready:     a.ready,
		Streaming: a.streaming,
		Reload:    reload,
		Wait:      a.wait,
		Hand:      a,
		Silent:    a.silent,
		Explain:   a.explain,
		Registry:  prometheus.Gatherers{a.registry, a.worked},
		TokenFile: a.cfg.HTTP.TokenFile,
		Logger:    a.log.With("component", "http"),
	}
}

// unpublished lists the problems of the publication: those that are not of some rules.
func (a *App) unpublished() (texts []string) {
	found, _ := a.reader.Problems()
	for _, p := range found {
		if len(p.Rules) == 0 {
			texts = append(texts, p.Text)
		}
	}
	return texts
}

func (a *App) ready() error {
	switch s := a.reader.State(); s.Phase {
	case postgres.Streaming, postgres.CatchingUp, postgres.Standby:
		return nil
	default:
		return fmt.Errorf("reader is %s: %s", s.Phase, s.Err)
	}
}

func (a *App) streaming() error {
	if c, now := a.reader.CatchUp(); now {
		return fmt.Errorf("the reader is catching up, %d bytes of the log are left", c.Left)
	}
	if err := a.standby(context.Background()); err != nil {
		return err
	}
	if s := a.reader.State(); s.Phase != postgres.Streaming {
		return fmt.Errorf("reader is %s: %s", s.Phase, s.Err)
	}
	if b := a.publisher.Blocked(); b != "" {
		return errors.New("the reader waits: " + b)
	}
	if why := a.stall.why(); why != "" {
		return errors.New(why)
	}
	if texts := a.unpublished(); len(texts) > 0 {
		return fmt.Errorf("the publication is not what the rules need: %s", strings.Join(texts[:min(len(texts), 5)], "; "))
	}
	for _, l := range a.lanes {
		if l.Status().State == delivery.Flushing {
			return fmt.Errorf("sink %s is being flushed", l.spec.Name)
		}
	}
	return nil
}
