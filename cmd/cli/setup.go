package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/rules"
)

func setupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create publication and slot, or print the SQL for a DBA",
		Long: "Bring publication and slot into the state that the rules need. Tables that no rule names any more\n" +
			"leave the publication. Nothing is done to the tables themselves.",
		Example: "  walpurge setup -c walpurge.yaml --print\n  walpurge setup -c walpurge.yaml\n  walpurge setup -c walpurge.yaml --drop",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	show := cmd.Flags().Bool("print", false, "print the SQL and do nothing")
	drop := cmd.Flags().Bool("drop", false, "drop slot and publication")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *show && *drop {
			return usage(errors.New("--print and --drop do not go together"))
		}
		cfg, err := load(*path, false)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *drop {
			if err := app.Drop(cmd.Context(), cfg.Postgres); err != nil {
				return err
			}
			fmt.Fprintf(out, "dropped slot %s and publication %s\n", cfg.Postgres.Slot, cfg.Postgres.Publication)
			return nil
		}
		set, err := rules.Load(cfg.Rules, rules.Options{Sinks: cfg.Specs()})
		if err != nil {
			return err
		}
		steps, left, err := app.Setup(cmd.Context(), cfg.Postgres, set, !*show)
		if err != nil {
			return errors.Join(append(left, err)...)
		}
		for _, s := range steps {
			fmt.Fprintln(out, s.Script()+";")
		}
		if len(left) > 0 {
			return errors.Join(left...)
		}
		if len(steps) == 0 && !*show {
			fmt.Fprintln(out, "nothing to do: publication and slot are as the rules need them")
		}
		return nil
	}
	return cmd
}
