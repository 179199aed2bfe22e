package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/kubernetes"
	"github.com/walpurge/walpurge/cmd/systemd"
	"github.com/walpurge/walpurge/cmd/tracing"
)

func runCommand(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: "Run the daemon until SIGTERM or SIGINT, which hands over, confirms and finishes what is in\n" +
			"flight within drain_timeout. The files are read again at SIGHUP, and when one of them changes.",
		Example: "  walpurge run -c walpurge.yaml",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	unwatched := cmd.Flags().Bool("no-watch", false, "do not reload when a file changes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(*path, false)
		if err != nil {
			return err
		}
		log, level := newLogger(cmd.ErrOrStderr(), cfg.Log)
		service := systemd.Config{Logger: log.With("component", "systemd")}
		if err := service.Environment(os.LookupEnv, os.Getpid()); err != nil {
			return err
		}
		pod := kubernetes.Config{Logger: log.With("component", "kubernetes")}
		if err := pod.Environment(os.LookupEnv); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		// From here on SIGHUP must not end the process.
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
		opts := app.Options{
			Config: cfg, Version: version, Logger: log, Level: level, WatchFiles: !*unwatched,
			Reload: func() (*config.Config, error) { return load(*path, false) },
		}
		closeTracer, err := trace(ctx, &opts)
		if err != nil {
			return err
		}
		defer closeTracer()
		a, err := app.NewDaemon(ctx, opts)
		if err != nil {
			if ctx.Err() != nil && exitCode(err) == 1 {
				log.Info("stopped before the start was complete", "err", err)
				return nil
			}
			return err
		}
		service.Ready, service.Alive = a.Ready, a.Alive
		service.Summary = func(ctx context.Context) string { return a.Status(ctx).Summary }
		pod.Leads = a.Leads
		manager := systemd.New(service)
		var telling sync.WaitGroup
		running, stopTelling := context.WithCancel(ctx)
		telling.Go(func() { manager.Run(running) })
		telling.Go(func() { kubernetes.Run(running, pod) })
		done := make(chan struct{})
		go reloadOnHangup(ctx, manager, a, hangup, done)
		err = a.Run(ctx)
		close(done)
		stopTelling()
		telling.Wait()
		return err
	}
	cmd.SetContext(context.Background())
	return cmd
}

// trace has transactions traced, if the environment asks for it, and returns what sends
// the last of it.
func trace(ctx context.Context, opts *app.Options) (end func(), err error) {
	if !tracing.On(os.LookupEnv) {
		return func() {}, nil
	}
	t, err := tracing.New(ctx, opts.Config.Pipeline, opts.Version, os.LookupEnv, opts.Logger.With("component", "tracing"))
	if err != nil {
		return nil, usage(err)
	}
	opts.Tracer = t
	opts.Logger.Info("tracing transactions with OpenTelemetry")
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceGrace)
		defer cancel()
		if err := t.Close(ctx); err != nil {
			opts.Logger.Warn("the last traces were not sent", "err", err)
		}
	}, nil
}

// traceGrace is how long a stop waits for traces to be sent.
const traceGrace = 3 * time.Second

// gcPercent is half of what the runtime takes by default. The stream's server
// keeps blocks of 8 MiB, so the heap goes up and down in large steps; collecting
// sooner costs little, because a change leaves hardly anything behind.
const gcPercent = 50

// reloadOnHangup reloads at every SIGHUP; the app logs what became of it.
func reloadOnHangup(ctx context.Context, manager *systemd.Notifier, a *app.Daemon, hangup <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-hangup:
			_ = manager.Reload(func() error { return a.Reload(ctx) })
		case <-done:
			return
		}
	}
}

func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	// Errors are redacted where they are made; this is the last defence.
	redact := func(_ []string, a slog.Attr) slog.Attr {
		if err, is := a.Value.Any().(error); is && a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(display.Redact(err).Error())
		}
		return a
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	if cfg.JSON {
		return slog.New(slog.NewJSONHandler(w, opts)), level
	}
	return slog.New(slog.NewTextHandler(w, opts)), level
}
