package cli

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
)

func skipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "skip --to current",
		Short: "Give up what was not read yet, flush every sink, and go on",
		Long: "Declare a gap, for a backlog that will never be worked off, or a change that cannot be read: the\n" +
			"slot is moved to the end of the log, the database may forget what lies before, and every sink is flushed,\n" +
			"postgres.on_gap notwithstanding. Asks for the pipeline's name. If no daemon answers, the slot is moved\n" +
			"all the same, and the flush comes with the next start.",
		Example: "  walpurge skip --to current -c walpurge.yaml\n  walpurge skip --to current --pipeline shop",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	to := cmd.Flags().String("to", "", "where to go on: current, the end of the log")
	name := cmd.Flags().String("pipeline", "", "the pipeline's name, so that it is not asked for")
	asJSON := cmd.Flags().Bool("json", false, "print what was skipped as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *to != "current" {
			return usage(fmt.Errorf("--to %q: write --to current; see walpurge skip --help", *to))
		}
		cfg, err := load(*flags.config, false)
		if err != nil {
			return err
		}
		if *name == "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "This gives up every change that is not read yet, and flushes %s.\nType the pipeline's name to go on: ", strings.Join(cfg.SinkNames(), ", "))
			line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			*name = strings.TrimSpace(line)
		}
		if *name != cfg.Pipeline {
			return usage(fmt.Errorf("%q is not the name of the pipeline in %s; nothing was skipped", *name, *flags.config))
		}
		report, here, err := skip(cmd, flags, cfg, admin.SkipRequest{To: *to, Pipeline: *name})
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), report)
		}
		then := "every sink is being flushed"
		if here {
			then = "no daemon runs: its next start flushes every sink"
			if cfg.StopOnGap {
				then = "no daemon runs: its next start stops at the gap, because postgres.on_gap is stop; set it to flush for that start"
			}
		}
		fmt.Fprintf(cmd.OutOrStdout(), "skipped from %s to %s; %s\n", report.From, report.To, then)
		return nil
	}
	return cmd
}

// skip has the daemon move its slot, or moves it here if no daemon answers.
func skip(cmd *cobra.Command, flags daemonFlags, cfg *config.Config, r admin.SkipRequest) (report admin.SkipReport, here bool, err error) {
	c, err := flags.client(cmd)
	if err != nil {
		return report, false, err
	}
	err = c.call(cmd.Context(), "/api/v1/skip", r, &report)
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return report, false, err
	}
	report, err = app.SkipUnread(cmd.Context(), cfg)
	return report, true, err
}
