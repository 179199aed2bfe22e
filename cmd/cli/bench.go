package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/bench"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
)

func benchCommand(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure drain rate and latency on your own database and sinks",
		Long: "Drain a backlog, and then change rows at a steady pace and measure the time from commit to purged, on the\n" +
			"database and the sinks of the configuration. Works in a schema, slot, publication and keys of its own, all\n" +
			"named walpurge_bench, which it removes at the end and after Ctrl-C. Asks first: it writes to the database,\n" +
			"and purges cost what your provider takes for them. Without --sink only caches that take keys are measured.",
		Example: "  walpurge bench -c walpurge.yaml\n  walpurge bench --rows 100000 --rate 500 --for 30s --yes --json",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	c := bench.Config{Version: version}
	f := cmd.Flags()
	f.StringArrayVar(&c.Sinks, "sink", nil, "a sink to measure, also more than once; default: those that are Valkey")
	f.IntVar(&c.Rows, "rows", 20000, "the rows of the backlog")
	f.IntVar(&c.PerTransaction, "per-transaction", 100, "how many rows one transaction of it changes")
	f.IntVar(&c.Rate, "rate", 100, "transactions a second for the latency")
	f.DurationVar(&c.For, "for", 10*time.Second, "how long the latency is measured")
	yes := f.Bool("yes", false, "do not ask")
	asJSON := f.Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(*path, false)
		if err != nil {
			return err
		}
		c.File = cfg
		if len(c.Sinks) == 0 {
			c.Sinks = caches(cfg)
		}
		if len(c.Sinks) == 0 {
			return usage(errors.New("no sink is a Valkey; name one with --sink, if its purges may cost what they cost"))
		}
		if err := c.Validate(); err != nil {
			return usage(err)
		}
		if !*yes {
			fmt.Fprintf(cmd.ErrOrStderr(), "This writes %s to %s, twice, and sends as many purges to %s.\nType yes to go on: ", plural.Count(c.Rows, "row"), cfg.Postgres.Address(), strings.Join(c.Sinks, ", "))
			line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if strings.TrimSpace(line) != "yes" {
				return usage(errors.New("nothing was measured; --yes does not ask"))
			}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		log := cfg.Log
		log.Level = max(log.Level, 4)
		c.Logger, _ = newLogger(cmd.ErrOrStderr(), log)
		c.Say = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+" ...\n", args...) }
		report, err := bench.Run(ctx, c)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), report)
		}
		report.Print(cmd.OutOrStdout())
		return nil
	}
	return cmd
}

// caches are the sinks whose purges cost nothing.
func caches(cfg *config.Config) (names []string) {
	for _, s := range cfg.Sinks {
		if s.Config.Traits().Free && !s.Shadow {
			names = append(names, s.Name)
		}
	}
	return names
}
