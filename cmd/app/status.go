package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// Status is the answer of /api/v1/status.
type Status struct {
	// Summary is one sentence: fresh or stale, where, and why.
	Summary    string      `json:"summary"`
	Fresh      bool        `json:"fresh"`
	Pipeline   string      `json:"pipeline"`
	Version    string      `json:"version"`
	Started    time.Time   `json:"started"`
	Reader     Reader      `json:"reader"`
	Watermarks []Watermark `json:"watermarks"`
	Sinks      []Sink      `json:"sinks"`
	Replicas   []Replica   `json:"replicas,omitempty"`
	Slot       Slot        `json:"slot"`
	Stream     Stream      `json:"stream"`
	// ReloadError is why the newest reload failed, empty if it did not.
	ReloadError string `json:"reload_error,omitempty"`
	// ConfigDigest says what the files in service hold; see ContentDigest.
	ConfigDigest string `json:"config_digest"`
	// At is when this was collected. Changes counts the row changes read since the
	// start, and so do the numbers of Rules and of each sink's Work.
	At      time.Time `json:"at"`
	Changes float64   `json:"changes"`
	Rules   []Rule    `json:"rules"`
	// Incidents are the newest gaps and flushes since the start, newest first.
	Incidents []Incident `json:"incidents"`
}

// Reader is the state of the replication connection.
type Reader struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	// Blocked says why the reader waits, empty if it does not.
	Blocked string `json:"blocked,omitempty"`
}

// Watermark is one mark on the board. LagSeconds is null while nothing is known.
type Watermark struct {
	Stage      string   `json:"stage"`
	Target     string   `json:"target,omitempty"`
	LSN        cdc.LSN  `json:"lsn"`
	Timeline   uint32   `json:"timeline"`
	LagBytes   uint64   `json:"lag_bytes"`
	LagSeconds *float64 `json:"lag_seconds"`
}

// Sink is one lane.
type Sink struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Class is that of the error: transient, item, lane or throttled.
	Class string `json:"class,omitempty"`
	// Gates are those that hold the lane back.
	Gates      []string `json:"gates,omitempty"`
	Backlog    uint64   `json:"backlog"`
	Parked     uint64   `json:"parked"`
	LagSeconds *float64 `json:"lag_seconds"`
	// DrainSeconds estimates what the backlog takes at RequestsPerSecond; null if
	// there is nothing to tell from.
	DrainSeconds      *float64 `json:"drain_seconds"`
	RequestsPerSecond float64  `json:"requests_per_second,omitempty"`
	Work              Work     `json:"work"`

	// lag is LagSeconds without what is parked.
	lag *float64
	// coarse are the flags of a purge that covers everything.
	coarse string
}

// Slot is the replication slot as last seen.
type Slot struct {
	Name          string `json:"name"`
	State         string `json:"state"`
	RetainedBytes int64  `json:"retained_bytes"`
	SafeBytes     *int64 `json:"safe_bytes,omitempty"`
}

// Stream is how full the stream is.
type Stream struct {
	Bytes                int64   `json:"bytes"`
	LimitBytes           int64   `json:"limit_bytes"`
	Messages             uint64  `json:"messages"`
	ReplayHorizonSeconds float64 `json:"replay_horizon_seconds"`
	// DiskFreeBytes is what the disk of the embedded stream has left.
	DiskFreeBytes *int64 `json:"disk_free_bytes,omitempty"`
}

// freshWithin is the lag below which a sink counts as fresh. An idle line is
// claimed once a second and looked at once a second, so a healthy one stays
// well below.
const freshWithin = 10 * time.Second

// Status collects the daemon's condition.
func (a *App) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	now := time.Now()
	state := a.reader.State()
	s := Status{
		Pipeline: a.cfg.Pipeline, Version: a.opts.Version, Started: a.started,
		Reader: Reader{State: string(state.Phase), Since: state.Since, Error: state.Err, Blocked: a.publisher.Blocked()},
	}
	refused, err := a.parkedNow(ctx)
	if err != nil {
		a.log.Debug("read parked", "err", err)
	}
	for _, r := range a.board.Snapshot() {
		s.Watermarks = append(s.Watermarks, Watermark{
			Stage: string(r.Stage), Target: r.Target, LSN: r.Position.LSN, Timeline: r.Position.Timeline,
			LagBytes: a.board.LagBytes(r.Mark), LagSeconds: seconds(refused.lag(r.Mark, a.board.Lag(r.Mark, now), now)),
		})
	}
	worked, err := readWork(a.worked)
	if err != nil {
		a.log.Debug("read counters", "err", err)
	}
	s.At, s.Changes, s.Rules, s.Incidents = now.UTC(), worked.changes, worked.of(a.set.Load()), a.incidents.newestFirst()
	plans := *a.plans.Load()
	for i, l := range a.lanes {
		st := l.Status()
		backlog, err := l.consumer.Backlog(ctx)
		if err != nil {
			a.log.Debug("read backlog", "err", err)
		}
		mark := watermark.Mark{Stage: watermark.Purged, Target: l.spec.Name}
		own := a.board.Lag(mark, now)
		sink := Sink{
			Name: l.spec.Name, Kind: l.spec.Kind(), State: string(st.State), Error: st.Err, Class: st.Class, Gates: st.Gates, Backlog: backlog,
			Parked: refused.counts[l.spec.Name], LagSeconds: seconds(refused.lag(mark, own, now)), lag: seconds(own),
			coarse: coarseFlags(plans[i]), Work: worked.sinks[l.spec.Name],
		}
		if d, known := l.Drain(backlog); known && err == nil {
			sink.DrainSeconds, sink.RequestsPerSecond = seconds(d.Time), d.PerSecond
		}
		s.Sinks = append(s.Sinks, sink)
	}
	s.Replicas = a.replicaStates()
	slot, _ := a.reader.Slot()
	s.Slot = Slot{Name: slot.Name, State: slot.Status, RetainedBytes: slot.Retained, SafeBytes: slot.Safe}
	if u, err := a.stream.Usage(ctx); err == nil {
		s.Stream = Stream{Bytes: u.Bytes, LimitBytes: u.Limit, Messages: u.Messages, ReplayHorizonSeconds: u.Horizon.Seconds()}
	}
	if free, known := a.diskFree(); known {
		s.Stream.DiskFreeBytes = &free
	}
	s.ReloadError = a.reloads.failure()
	if loaded := a.loaded.Load(); loaded != nil {
		s.ConfigDigest = joined(*loaded)
	}
	s.Fresh, s.Summary = summarize(&s)
	return s
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
		Explain:   a.explain,
		Registry:  prometheus.Gatherers{a.registry, a.worked},
		TokenFile: a.cfg.HTTP.TokenFile,
		Logger:    a.log.With("component", "http"),
	}
}

func (a *App) ready() error {
	switch s := a.reader.State(); s.Phase {
	case postgres.Streaming, postgres.Standby:
		return nil
	default:
		return fmt.Errorf("reader is %s: %s", s.Phase, s.Err)
	}
}

func (a *App) streaming() error {
	if s := a.reader.State(); s.Phase != postgres.Streaming {
		return fmt.Errorf("reader is %s: %s", s.Phase, s.Err)
	}
	if b := a.publisher.Blocked(); b != "" {
		return errors.New("the reader waits: " + b)
	}
	if p := a.reader.Problems(); len(p) > 0 {
		return fmt.Errorf("the publication is not what the rules need: %s", strings.Join(p[:min(len(p), 5)], "; "))
	}
	for _, l := range a.lanes {
		if l.Status().State == delivery.Flushing {
			return fmt.Errorf("sink %s is being flushed", l.spec.Name)
		}
	}
	return nil
}
