package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func rulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rules",
		Short:   "Draft rules, test them, and ask what they make of a change",
		Long:    "Write rules and look at them, without a stream or a cache.",
		Example: "  walpurge rules init --db postgres://app@localhost/shop --out rules/shop.yaml\n  walpurge rules test rules_test.yaml\n  walpurge rules explain -c walpurge.yaml --change @change.json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q; see walpurge rules --help", "rules "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(rulesTestCommand(), rulesExplainCommand())
	cmd.AddCommand(rulesInitCommand(), rulesSchemaCommand())
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
