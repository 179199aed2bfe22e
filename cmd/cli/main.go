package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// exitError carries an exit code; its text, if any, is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error of the command line itself.
func usage(err error) error { return &exitError{code: 2, err: err} }

// Main runs the command line and returns the exit code of the process.
func Main(args []string, version string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := Root(version)
	root.SetArgs(args)
	root.SetIn(stdin)
	stdout, stderr = terminal{display.Writer(stdout), stdout}, terminal{display.Writer(stderr), stderr}
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if text := display.Redact(err).Error(); text != "" {
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintln(stderr, "walpurge: "+line)
		}
	}
	return exitCode(err)
}

// clearScreen moves a terminal to its upper left corner and clears it.
const clearScreen = "\x1b[H\x1b[2J"

// clearLine moves to the beginning of the line and clears it.
const clearLine = "\r\x1b[K"

// terminal escapes all that a terminal would take for a command, except a write of clearScreen or clearLine and nothing else.
type terminal struct{ escaping, raw io.Writer }

func (t terminal) Write(p []byte) (int, error) {
	if string(p) == clearScreen || string(p) == clearLine {
		return t.raw.Write(p)
	}
	return t.escaping.Write(p)
}

// Root is the tree of commands, for Main and for what makes manual pages of it.
func Root(version string) *cobra.Command {
	root := &cobra.Command{
		Use:   "walpurge",
		Short: "Tells your caches what changed in PostgreSQL",
		Long: "walpurge tails PostgreSQL's logical replication, turns row changes into cache keys and\n" +
			"CDN tags by rules, and purges Valkey and edge caches: at least once, in the right order.",
		SilenceUsage:  true,
		SilenceErrors: true,
		// A bare call shows the help.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q; see walpurge --help", args[0]))
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%s; see %s --help", display.Name(err.Error()), cmd.CommandPath()))
	})
	root.AddCommand(runCommand(version), checkCommand(), setupCommand(), rulesCommand(), demoCommand(version), versionCommand(version),
		statusCommand(), waitCommand(), tailCommand(), purgeCommand(), replayCommand(), parkedCommand(), skipCommand(), benchCommand(version),
		reloadCommand(), schemaCommand(), warmCommand(),
		pauseCommand("pause", "Hold a lane: its invalidations wait",
			"Hold a sink's lane: what is in flight is finished, the rest waits. Manual purges go on. The pause\nis stored in the stream: it holds after a restart and at another daemon that takes over, until resume or --for."),
		pauseCommand("resume", "Let a lane go on", "End a pause, or the wait that a provider asked for."))
	return root
}

// exitCode is 2 where the user's files or flags cannot be used, else 1.
func exitCode(err error) int {
	var exit *exitError
	var findings strictyaml.Errors
	var missing *postgres.Missing
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &findings), errors.As(err, &missing), errors.Is(err, readfile.ErrNotRegular), errors.Is(err, readfile.ErrTooLarge):
		return 2
	}
	return 1
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "walpurge.yaml", "the configuration file")
}

// load reads the file named by -c.
func load(path string, offline bool) (*config.Config, error) {
	cfg, err := config.Load(path, config.Options{Env: os.LookupEnv, Offline: offline})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, usage(err)
	}
	return cfg, err
}
