package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/integration/demo"
)

func demoCommand(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch purges happen on throwaway servers",
		Long: "Start a throwaway PostgreSQL, Valkey and edge cache with a sample shop, change rows, and show what\n" +
			"was purged and how fast. Nothing is left behind. Needs the programs of PostgreSQL 15 or newer and\n" +
			"valkey-server (or redis-server); `make demo` installs them. Exit 0 when every change was purged.",
		Example: "  walpurge demo\n  walpurge demo --for 10s",
		Args:    cobra.NoArgs,
	}
	duration := cmd.Flags().Duration("for", 0, "end by itself after this long; 0 runs until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		err := demo.Run(ctx, demo.Config{For: *duration, Version: version, Out: cmd.OutOrStdout(), Log: cmd.ErrOrStderr()})
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			// Interrupted before there was anything to sum up.
			return nil
		}
		return err
	}
	return cmd
}
