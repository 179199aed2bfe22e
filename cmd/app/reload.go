package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

type reloadMetrics struct{ ok, at prometheus.Gauge }

func newReloadMetrics(reg prometheus.Registerer) reloadMetrics {
	m := reloadMetrics{
		ok: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "walpurge", Name: "config_last_reload_successful", Help: "1 if the last reload succeeded."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "walpurge", Name: "config_last_reload_success_timestamp_seconds", Help: "Unix time of the last good load of the configuration."}),
	}
	reg.MustRegister(m.ok, m.at)
	m.ok.Set(1)
	m.at.SetToCurrentTime()
	return m
}

// Reload reads the file and the rules again and puts the rules into service at
// a boundary between transactions. It is all or nothing: after an error the old
// rules go on. New tables are published before their rules begin.
func (a *App) Reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	err := a.reload(ctx)
	if err != nil {
		a.reloads.ok.Set(0)
		a.log.Error("reload failed, the old rules go on", "err", err)
		return err
	}
	a.reloads.ok.Set(1)
	a.reloads.at.SetToCurrentTime()
	a.log.Info("reloaded", "rules", len(a.set.Load().Rules()))
	return nil
}

func (a *App) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a.files.reading()
	next, err := a.opts.Reload()
	if err != nil {
		return err
	}
	a.files.note(next)
	if err := reloadable(a.cfg, next); err != nil {
		return err
	}
	set, plans, err := a.preflight(ctx, next)
	if err != nil {
		return err
	}
	if a.reader.State().Phase == postgres.Streaming {
		publish := func(ctx context.Context) error { return a.reader.Widen(ctx, watch(set)) }
		if err := a.router.Reload(ctx, set, publish); err != nil {
			return err
		}
	} else {
		// The next session publishes the tables and begins with the rules. Only who
		// owns the slot may touch the publication.
		a.router.Replace(set)
	}
	a.use(set, plans)
	a.opts.Level.Set(next.Log.Level)
	return nil
}

// reloadable says whether two configurations differ only in what a reload can
// change.
func reloadable(old, next *config.Config) error {
	sinks := func(c *config.Config) []config.Sink {
		bare := slices.Clone(c.Sinks)
		for i := range bare {
			bare[i].Pos = strictyaml.Pos{}
		}
		return bare
	}
	fixed := func(c *config.Config) []any {
		return []any{c.Pipeline, c.DataDir, []any{c.Postgres, c.Visible, c.StopOnGap, c.Replicas, c.ReplicasAuto}, c.NATS,
			[]any{c.Stream, c.Confirm}, sinks(c), c.HTTP, c.DrainTimeout}
	}
	keys := []string{"pipeline", "data_dir", "postgres", "nats", "stream", "sinks", "http", "drain_timeout"}
	was, is := fixed(old), fixed(next)
	var errs []error
	for i, key := range keys {
		if !reflect.DeepEqual(was[i], is[i]) {
			errs = append(errs, fmt.Errorf("%s: `%s` changed, and that needs a restart; a reload takes rules and the log level", next.File, key))
		}
	}
	return errors.Join(errs...)
}
