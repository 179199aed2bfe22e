package cli

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc"
)

func waitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait LSN",
		Short: "Wait until what was committed before an LSN is purged",
		Long: "Wait until every sink, or one, has purged all that was committed up to the LSN: for scripts and tests\n" +
			"that must not read a stale copy. SELECT pg_current_wal_insert_lsn() after the commit gives an LSN.\n" +
			"DDL has no place in this order: what it changes is found when tables are compared, as they are for each\n" +
			"wait, so DDL that was committed before the call is covered while the daemon streams.\n" +
			"Exit 0 when it has, 1 when the time was up or some of it is parked.",
		Example: "  walpurge wait 0/16B3748\n  walpurge wait 0/16B3748 --sink edge --timeout 30s",
		Args:    exactly(1, "the LSN, such as 0/16B3748"),
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "one sink; default: every sink")
	timeout := cmd.Flags().Duration("timeout", 5*time.Second, "how long to wait, up to 5m")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := cdc.ParseLSN(args[0]); err != nil {
			return usage(err)
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		q := url.Values{"lsn": args, "sink": {*sink}, "timeout": {timeout.String()}}
		var answer struct{}
		if err := c.call(cmd.Context(), "/api/v1/wait?"+q.Encode(), nil, &answer); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "purged up to "+args[0])
		return nil
	}
	return cmd
}

// exactly asks for n arguments, and names what is missing.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Errorf("want %s; see %s --help", what, cmd.CommandPath()))
		}
		return nil
	}
}
