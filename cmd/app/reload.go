package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

type reloadMetrics struct {
	ok, at prometheus.Gauge
	failed *atomic.Pointer[string]
}

// failure is why the newest reload failed, empty if it did not.
func (m *reloadMetrics) failure() string {
	if why := m.failed.Load(); why != nil {
		return *why
	}
	return ""
}

// note tells what became of a reload.
func (m *reloadMetrics) note(err error) {
	if err != nil {
		first, rest, several := strings.Cut(err.Error(), "\n")
		why := strings.Join(strings.Fields(first), " ")
		if several {
			why += "; and " + plural.Count(strings.Count(rest, "\n")+1, "more finding")
		}
		m.failed.Store(&why)
		m.ok.Set(0)
		return
	}
	m.failed.Store(nil)
	m.ok.Set(1)
	m.at.SetToCurrentTime()
}

// carry takes over what became of the newest reload, for a pipeline in the place of another.
func (m *reloadMetrics) carry(from reloadMetrics) {
	if why := from.failed.Load(); why != nil {
		m.failed.Store(why)
		m.ok.Set(0)
	}
}

func newReloadMetrics(reg prometheus.Registerer) reloadMetrics {
	m := reloadMetrics{
		failed: new(atomic.Pointer[string]),
		ok:     prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "walpurge", Name: "config_last_reload_successful", Help: "1 if the last reload succeeded."}),
		at:     prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "walpurge", Name: "config_last_reload_success_timestamp_seconds", Help: "Unix time of the last good load of the configuration."}),
	}
	reg.MustRegister(m.ok, m.at)
	m.ok.Set(1)
	m.at.SetToCurrentTime()
	return m
}

// Reload reads the files again and puts them into service: rules at a boundary
// between transactions, sinks and limits by exchanging the pipeline for another one.
// It is all or nothing: after an error the old configuration goes on. Where the reason lies
// outside the files, the reload is tried again at each heartbeat.
func (d *Daemon) Reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	err := d.attempt(ctx)
	if err != nil {
		d.log.Error("reload failed, the old configuration goes on", "err", err, "tried_again", d.retrying)
	}
	if !d.retrying {
		d.conditions.At(retryObsolete).End()
	}
	return err
}

// attempt reloads once, and decides whether a failure is tried again. The caller holds reloading.
func (d *Daemon) attempt(ctx context.Context) error {
	err := d.reload(ctx)
	a := d.app.Load()
	// A size that the server does not take is in the files and not in force, reload or not.
	a.reloads.note(cmp.Or(err, a.stream.Refused()))
	var external *externalError
	if d.retrying = errors.As(err, &external); d.retrying {
		if external.stopped {
			d.stops++
		}
		select {
		case d.failed <- struct{}{}:
		default:
		}
	}
	if err != nil {
		return err
	}
	d.stops = 0
	loaded := d.files.triedContent()
	a.loaded.Store(&loaded)
	d.conditions.At(retryFails).End()
	d.log.Info("reloaded", "rules", len(a.set.Load().Rules()), "sinks", len(a.lanes))
	return nil
}

func (d *Daemon) reload(ctx context.Context) error {
	d.files.reading()
	next, err := d.opts.Reload()
	if err != nil {
		return err
	}
	d.files.note(next)
	a := d.app.Load()
	more, err := reloadable(a.cfg, next)
	if err != nil {
		return err
	}
	if _, _, err := loadRules(next, nil); err != nil {
		return err
	}
	// The files are right. What fails from here on may succeed later with the same files.
	if more {
		return d.exchange(ctx, next)
	}
	if err := a.apply(ctx, next); err != nil {
		return &externalError{err: err}
	}
	for _, l := range a.lanes {
		l.Hasten()
	}
	return nil
}

// apply takes the rules of a configuration that differs in nothing else. New tables
// are published before their rules begin.
func (a *App) apply(ctx context.Context, next *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	set, plans, err := a.preflight(ctx, next)
	if err != nil {
		return err
	}
	if a.reader.State().Phase.Reads() {
		publish := func(ctx context.Context) error { return a.reader.Widen(ctx, watch(set)) }
		if err := a.router.Reload(ctx, set, publish); err != nil {
			return err
		}
		a.use(set, plans)
		// What the new rules cannot read is known when the reload returns.
		if _, err := a.reader.Compare(ctx); err != nil {
			a.log.Warn("tables have not been compared with the new rules yet", "err", err)
		}
	} else {
		// The next session publishes the tables and begins with the rules. Only who
		// owns the slot may touch the publication.
		a.router.Replace(set)
		a.use(set, plans)
	}
	a.opts.Level.Set(next.Log.Level)
	return nil
}

// reloadable says whether two configurations differ in more than rules and the level
// of the log, or why a reload cannot bring the new one.
func reloadable(old, next *config.Config) (more bool, err error) {
	fixed := func(c *config.Config) []any {
		return []any{c.Pipeline, c.DataDir, []any{c.Postgres, c.Visible, c.StopOnGap, c.Replicas, c.ReplicasAuto}, c.NATS, c.HTTP}
	}
	keys := []string{"pipeline", "data_dir", "postgres", "nats", "http"}
	was, is := fixed(old), fixed(next)
	var errs []error
	for i, key := range keys {
		if !reflect.DeepEqual(was[i], is[i]) {
			errs = append(errs, fmt.Errorf("%s: `%s` changed, and that needs a restart; a reload takes rules, sinks, stream, drain_timeout and the log level", next.File, key))
		}
	}
	sinks := func(c *config.Config) []config.Sink {
		bare := slices.Clone(c.Sinks)
		for i := range bare {
			bare[i].Pos = strictyaml.Pos{}
		}
		return bare
	}
	warms := func(c *config.Config) []config.Warm {
		bare := slices.Clone(c.Warms)
		for i := range bare {
			bare[i].Pos = strictyaml.Pos{}
		}
		return bare
	}
	movable := func(c *config.Config) []any {
		return []any{sinks(c), warms(c), c.Retired, c.Stream, c.Confirm, c.DrainTimeout}
	}
	return !reflect.DeepEqual(movable(old), movable(next)), errors.Join(errs...)
}
