package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules"
)

func rulesLockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Write what the database says of the rules' tables into a file",
		Long: "Read the columns, types and replica identities of the tables that rules name, and write them into\n" +
			rules.LockFile + " beside the configuration. Commit the file: rule tests, explain and check --offline\n" +
			"use it instead of a database, and check says when the database has moved on.",
		Example: "  walpurge rules lock -c walpurge.yaml\n  walpurge rules lock -c walpurge.yaml --print",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	out := cmd.Flags().String("out", "", "write to this `FILE` instead")
	show := cmd.Flags().Bool("print", false, "print the file and write nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *show && *out != "" {
			return usage(errors.New("--print and --out do not go together"))
		}
		cfg, err := load(*path, false)
		if err != nil {
			return err
		}
		set, err := rules.Load(cfg.Rules, rules.Options{Sinks: cfg.Specs()})
		if err != nil {
			return unreadable(err)
		}
		catalog, err := app.LiveCatalog(cmd.Context(), cfg.Postgres, set.Tables())
		if err != nil {
			return err
		}
		if *show {
			_, err := cmd.OutOrStdout().Write(catalog.YAML())
			return err
		}
		file := app.LockPath(cfg)
		if *out != "" {
			file = *out
		}
		if err := replaceFile(file, catalog.YAML()); err != nil {
			return fmt.Errorf("write the catalog: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %s\n", file, plural.Count(len(catalog.Tables()), "table"))
		return nil
	}
	return cmd
}

// replaceFile writes a file whole or not at all: a lock file that is cut off would
// keep checks from running.
func replaceFile(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // is gone once it was renamed
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
