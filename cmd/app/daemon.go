package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router/stream"
)

// Daemon runs a pipeline behind a listener, and another one in its place when a reload
// asks for what a running pipeline cannot take. Make it with NewDaemon, Run it once.
type Daemon struct {
	opts     Options
	log      *slog.Logger
	listener net.Listener
	front    *admin.Front
	files    files
	app      atomic.Pointer[App]

	// reloading is held during a reload. It guards retrying, that a failed one is to be tried again,
	// and stops, how many attempts in a row have stopped the pipeline. failed has a value when
	// retrying was set.
	reloading  sync.Mutex
	retrying   bool
	stops      int
	failed     chan struct{}
	conditions *condition.Log

	exchanges chan exchange
	// ended is closed when nobody takes exchanges any more.
	ended chan struct{}
}

// NewDaemon takes the address, and opens the pipeline; see New.
func NewDaemon(ctx context.Context, opts Options) (*Daemon, error) {
	d := &Daemon{opts: opts, log: opts.Logger, exchanges: make(chan exchange), ended: make(chan struct{}),
		failed: make(chan struct{}, 1), conditions: condition.NewLog(opts.Logger)}
	d.files.note(opts.Config)
	loaded := d.files.triedContent()
	var err error
	if d.listener, err = net.Listen("tcp", opts.Config.HTTP.Listen); err != nil {
		return nil, fmt.Errorf("http.listen: %w; stop what uses the address, or choose another", err)
	}
	hostname, _ := os.Hostname() // without one, it is not named
	d.opts.Leader = reachedAt(opts.Config.HTTP, d.Addr(), hostname)
	first, err := New(ctx, d.opts, d.Reload)
	if err != nil {
		d.listener.Close()
		return nil, err
	}
	first.loaded.Store(&loaded)
	d.app.Store(first)
	d.front = admin.NewFront(first.admin)
	return d, nil
}

// Addr is the address of the listener.
func (d *Daemon) Addr() string { return d.listener.Addr().String() }

// Conn is the connection to the stream's server, for those that listen to purged
// subjects. It ends with the pipeline that is exchanged.
func (d *Daemon) Conn() *nats.Conn { return d.app.Load().nc }

// Status collects the condition of the pipeline that runs.
func (d *Daemon) Status(ctx context.Context) status.Status { return d.app.Load().Status(ctx) }

// Wait blocks until every sink has purged what was committed up to the position, and
// returns nil; or the context's error, an *admin.ProblemError, an *admin.ParkedError, or an
// *admin.ParkedUnknownError.
func (d *Daemon) Wait(ctx context.Context, lsn cdc.LSN) error { return d.app.Load().wait(ctx, lsn, "") }

// Ready returns why not, or nil: the condition of /-/ready.
func (d *Daemon) Ready() error { return d.app.Load().ready() }

// Alive returns why only a restart would help, or nil: for a watchdog.
func (d *Daemon) Alive() error { return d.app.Load().alive() }

// Leads reports whether this process works the lanes of the pipeline.
func (d *Daemon) Leads() bool {
	a := d.app.Load()
	if a.cfg.NATS.Embedded() {
		return true
	}
	select {
	case <-a.pulse.leading:
		return true
	default:
		return false
	}
}

// Run works until the context ends or a part fails for good, and returns once all has
// stopped; see App.Run.
func (d *Daemon) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	working, cut := context.WithCancel(ctx)
	defer cut()
	var under errgroup.Group
	under.Go(func() error {
		err := d.front.Run(serving, d.listener)
		if err != nil {
			cut()
		}
		return err
	})
	watching, unwatch := context.WithCancel(working)
	if d.opts.WatchFiles {
		under.Go(func() error {
			err := d.watchFiles(watching)
			if err != nil {
				cut()
			}
			return err
		})
	}
	under.Go(func() error { return d.retryReloads(watching) })
	d.log.Info("listening", "http", d.Addr())
	err := d.work(working)
	close(d.ended)
	unwatch()
	stop()
	return errors.Join(err, under.Wait())
}

// exchange asks for another pipeline in the place of the one that runs.
type exchange struct {
	next *config.Config
	done chan error
}

// exchange has the pipeline of another configuration run, and returns once it does, or
// why the old one goes on. What waits for a sink stays in the stream meanwhile.
func (d *Daemon) exchange(ctx context.Context, next *config.Config) error {
	if err := d.app.Load().tryOut(ctx, next); err != nil {
		return &externalError{err: err}
	}
	x := exchange{next, make(chan error, 1)}
	select {
	case d.exchanges <- x:
	case <-d.ended:
		return errors.New("the daemon is stopping")
	}
	if err := <-x.done; err != nil {
		return &externalError{err: err, stopped: true}
	}
	return nil
}

// work runs one pipeline after the other.
func (d *Daemon) work(ctx context.Context) error {
	for {
		a := d.app.Load()
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- a.Run(running) }()
		select {
		case err := <-ended:
			stop()
			switch {
			case ctx.Err() != nil:
				return err
			case errors.Is(err, errSuperseded):
				d.log.Warn("another process has taken over the pipeline; standing by")
			case errors.Is(err, stream.ErrGone):
				d.log.Error("the stream is lost; opening the pipeline again, which flushes the sinks", "err", err)
			default:
				return err
			}
			if err := d.replace(ctx, a, a.cfg); err != nil {
				return err
			}
		case x := <-d.exchanges:
			d.log.Info("exchanging the pipeline for that of a new configuration")
			stop()
			if err := <-ended; err != nil && !errors.Is(err, errSuperseded) || ctx.Err() != nil {
				x.done <- errors.Join(errors.New("the daemon stopped"), err)
				return err
			}
			err := d.replace(ctx, a, x.next)
			if err != nil && d.app.Load() == a {
				x.done <- err
				return err
			}
			x.done <- err
		}
	}
}

// replace opens the next pipeline, or the old one anew when that fails, and returns
// why. If neither can be opened, the old one stays in its place, closed.
func (d *Daemon) replace(ctx context.Context, old *App, next *config.Config) error {
	opts := d.opts
	opts.Config = next
	// A pipeline reads the rules as they are now, and has the file that it is given.
	loaded := [2]string{old.loaded.Load()[0], d.files.content()[1]}
	a, err := New(ctx, opts, d.Reload)
	if err != nil {
		opts.Config = old.cfg
		var again error
		if a, again = New(ctx, opts, d.Reload); again != nil {
			return errors.Join(err, fmt.Errorf("nor does the old configuration work any more: %w", again))
		}
	}
	d.opts.Level.Set(opts.Config.Log.Level)
	a.loaded.Store(&loaded)
	a.reloads.carry(old.reloads)
	d.app.Store(a)
	d.front.Exchange(a.admin)
	return err
}

// tryOut finds what is wrong with a configuration that a pipeline would be opened for,
// as far as that shows while this one runs.
func (a *App) tryOut(ctx context.Context, next *config.Config) error {
	if _, _, err := a.preflight(ctx, next); err != nil {
		return err
	}
	for _, s := range next.Sinks {
		t, err := newTarget(s, nil, a.log)
		if err != nil {
			return err
		}
		t.Close()
	}
	if _, err := a.former(ctx, next); err != nil {
		return err
	}
	if next.Stream.MaxBytes == a.cfg.Stream.MaxBytes || a.cfg.NATS.Embedded() {
		return nil
	}
	return a.stream.TryMaxBytes(ctx, next.Stream.MaxBytes)
}
