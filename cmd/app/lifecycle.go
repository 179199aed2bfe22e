package app

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/router/stream"
)

// Run works until the context ends or a part fails for good, then stops in two
// steps: intake first, work second. The reader hands over, publishes, syncs and
// confirms what it has received; lanes finish the purges in flight and leave
// their backlog to the next start. All of it takes at most drain_timeout. Run
// closes what New opened, and may be called once.
func (a *App) Run(ctx context.Context) error {
	defer a.close()
	intake, stopIntake := context.WithCancel(ctx)
	defer stopIntake()
	// core is what reader and lanes stand on; it ends after them.
	core, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	work, stopWork := outlive(intake, a.cfg.DrainTimeout)
	defer stopWork()

	var under, over errgroup.Group
	spawn := func(g *errgroup.Group, run func() error) {
		g.Go(func() error {
			err := run()
			if err != nil {
				stopIntake()
			}
			return err
		})
	}
	spawn(&under, func() error { return a.publisher.Run(core) })
	spawn(&under, func() error { return a.stream.RunSync(core, a.board) })
	if a.server != nil {
		spawn(&under, func() error { return a.server.Watch(core) })
	}
	trimmer := stream.NewTrimmer(a.stream, a.publisher, a.floor, a.log.With("component", "trimmer"))
	spawn(&under, func() error { return trimmer.Run(core) })
	spawn(&under, func() error { return a.gate.Run(core) })
	spawn(&under, func() error { return a.watchReader(core) })
	if a.replicas != nil {
		spawn(&under, func() error { return a.replicas.Run(core) })
	}
	for _, l := range a.lanes {
		spawn(&over, func() error {
			if !a.leads(intake) {
				return nil
			}
			return a.caches.run(intake, work, l)
		})
	}
	for _, w := range a.warms {
		spawn(&over, func() error {
			if !a.leads(intake) {
				return nil
			}
			return w.Run(intake, work)
		})
	}
	spawn(&over, func() error { return a.watchPauses(intake) })
	if !a.cfg.NATS.Embedded() {
		spawn(&over, func() error { return a.watchEpoch(intake) })
		spawn(&over, func() error { return a.watchStream(intake) })
	}
	spawn(&over, func() error { return a.reader.Run(intake, a.pulse) })
	a.log.Info("running", "pipeline", a.cfg.Pipeline, "rules", len(a.set.Load().Rules()), "sinks", len(a.lanes))

	err := over.Wait()
	a.log.Info("stopping", "err", err)
	for _, l := range a.lanes {
		l.consumer.Close()
		l.manual.Close()
	}
	// Acknowledgements given last are on their way.
	if ferr := a.nc.FlushTimeout(5 * time.Second); ferr != nil {
		a.log.Warn("the last acknowledgements may be lost, their purges will be repeated", "err", ferr)
	}
	stopCore()
	return errors.Join(err, under.Wait())
}

// outlive returns a context that ends the given time after another one, or by its stop
// function: it bounds what is still in flight once intake has ended.
func outlive(intake context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	work, end := context.WithCancel(context.WithoutCancel(intake))
	stop := context.AfterFunc(intake, func() { time.AfterFunc(by, end) })
	return work, func() { stop(); end() }
}

// floor is the lowest sequence up to which every lane has acknowledged.
func (a *App) floor() uint64 {
	lowest := ^uint64(0)
	for _, l := range a.lanes {
		lowest = min(lowest, l.consumer.Floor())
	}
	return lowest
}
