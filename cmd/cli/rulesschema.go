package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/rules"
)

func rulesSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a rules file, for editors",
		Long: "The same as `walpurge schema rules`. Print the JSON Schema (2020-12) of a rules file. An editor with it completes keys and marks what is\n" +
			"misspelt; what templates and conditions mean only `walpurge check` can say.",
		Example: "  walpurge rules schema > " + rulesSchemaFile,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), rules.Schema())
			return err
		},
	}
}
