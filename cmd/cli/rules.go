package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func rulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rules",
		Short:   "Test rules, ask what they make of a change, and lock what they know of tables",
		Long:    "Look at rules without a stream or a cache, and, but for lock, without a database.",
		Example: "  walpurge rules test rules_test.yaml\n  walpurge rules explain -c walpurge.yaml --change @change.json\n  walpurge rules lock -c walpurge.yaml",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q; see walpurge rules --help", "rules "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(rulesTestCommand(), rulesExplainCommand(), rulesLockCommand())
	return cmd
}

// unreadable gives an error about a file that the user named its exit code; what
// is wrong inside a file has one already.
func unreadable(err error) error {
	if err == nil || exitCode(err) == 2 {
		return err
	}
	return usage(err)
}
