package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running daemon read its files again",
		Long: "Have the running daemon read its files again, and wait until they are in service. A change of pipeline,\n" +
			"postgres, nats, data_dir or http needs a restart, which the error says. The daemon reloads by itself when\n" +
			"its files change, unless it runs with --no-watch. What failed for a reason outside the files, such as a\n" +
			"missing privilege, it tries again at each heartbeat.\n" +
			"Exit 0 when the files are in service, 1 when the old configuration goes on.",
		Example: "  walpurge reload -c walpurge.yaml\n  walpurge reload --addr http://10.0.0.5:7468 --token-file /run/secrets/walpurge",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var answer struct{}
		if err := c.call(cmd.Context(), "/-/reload", struct{}{}, &answer); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
		return nil
	}
	return cmd
}
