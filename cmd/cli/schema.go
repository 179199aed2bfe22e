package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/rulestest"
)

func schemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a file, for editors",
		Long: "Print the JSON Schema (2020-12) of walpurge.yaml, of a rules file or of a rule test file. An editor\n" +
			"with it completes keys, describes them, and marks what is misspelt. What names, templates and\n" +
			"conditions mean only `walpurge check` can say.\n\n" +
			"The first line of a file names its schema, relative to the file:\n\n" +
			"  # yaml-language-server: $schema=" + rulesSchemaFile,
		Example: "  walpurge schema rules > rules/" + rulesSchemaFile + "\n  walpurge schema config > " + configSchemaFile,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no schema of %q; write walpurge schema config, rules or tests", args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		printSchema("config", "the configuration, walpurge.yaml", configSchemaFile, config.Schema),
		printSchema("rules", "a rules file", rulesSchemaFile, rules.Schema),
		printSchema("tests", "a rule test file", "walpurge-tests.schema.json", rulestest.Schema),
	)
	return cmd
}

// Names that documents and drafts give to the files.
const (
	configSchemaFile = "walpurge-config.schema.json"
	rulesSchemaFile  = "walpurge-rules.schema.json"
)

func printSchema(name, of, file string, schema func() string) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   "Print the JSON Schema of " + of,
		Example: "  walpurge schema " + name + " > " + file,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), schema())
			return err
		},
	}
}
