package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what is wrong before it is: files, database, stream, sinks",
		Long: "Print one line per finding with its fix. Exit 0 if there is none, 1 for what would lose purges\n" +
			"or cannot be reached, 2 for input that cannot be used. Nothing is created or changed.",
		Example: "  walpurge check -c walpurge.yaml\n  walpurge check -c walpurge.yaml --offline",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	offline := cmd.Flags().Bool("offline", false, "look at the files only")
	asJSON := cmd.Flags().Bool("json", false, "print findings as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(*path, *offline)
		var unusable strictyaml.Errors
		if err != nil && !errors.As(err, &unusable) {
			return err
		}
		findings := app.Findings(err)
		if err == nil {
			findings = app.Check(cmd.Context(), cfg, *offline)
		}
		out := cmd.OutOrStdout()
		var code int
		if *asJSON {
			code = app.ExitCode(findings)
			if findings == nil {
				findings = []app.Finding{}
			}
			if err := json.NewEncoder(out).Encode(findings); err != nil {
				return err
			}
		} else {
			for _, f := range findings {
				fmt.Fprintln(out, f.Text)
			}
			if code = app.ExitCode(findings); code == 0 {
				fmt.Fprintf(out, "fine: pipeline %s, %s\n", cfg.Pipeline, plural.Count(len(cfg.Sinks), "sink"))
			}
		}
		if code != 0 {
			return &exitError{code: code}
		}
		return nil
	}
	return cmd
}
