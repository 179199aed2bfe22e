package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what is wrong before it is: files, database, stream, sinks",
		Long: "Print one line per finding with its fix. Exit 0 without findings, 1 for what would lose purges\n" +
			"or cannot be reached, 2 for input that cannot be used. Notes do not change the exit code: one says\n" +
			"when the running daemon does not have these files yet, others which values may become too long,\n" +
			"or what of a sink is not proven. Nothing is created or changed, except by --probe: at sinks whose\n" +
			"answers prove too little it stores entries of its own, purges some, reads all again and removes them.",
		Example: "  walpurge check -c walpurge.yaml\n  walpurge check -c walpurge.yaml --offline\n  walpurge check -c walpurge.yaml --probe",
		Args:    cobra.NoArgs,
	}
	path := configFlag(cmd)
	offline := cmd.Flags().Bool("offline", false, "look at the files only")
	probe := cmd.Flags().Bool("probe", false, "store, purge and read entries of its own at the sinks")
	cmd.MarkFlagsMutuallyExclusive("offline", "probe")
	listener := cmd.Flags().String("listener", "", "a URL with the user of those who listen for purges on a NATS server of your own: try what it may do; default: WALPURGE_LISTENER_URL")
	credentials := cmd.Flags().String("listener-credentials", "", "the file with the credentials of that user")
	asJSON := cmd.Flags().Bool("json", false, "print findings as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(*path, *offline)
		var unusable strictyaml.Errors
		if err != nil && !errors.As(err, &unusable) {
			return err
		}
		findings := app.Findings(err)
		if err == nil {
			findings = app.Check(cmd.Context(), cfg, app.CheckOptions{
				Offline: *offline, Probe: *probe, Listener: cmp.Or(*listener, os.Getenv("WALPURGE_LISTENER_URL")), ListenerCredentials: *credentials,
			})
		}
		if err == nil && !*offline {
			findings = append(findings, notInService(cmd.Context(), cfg, *path)...)
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
				if f.Note {
					fmt.Fprint(out, "note: ")
				}
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

// notInService notes that the daemon of the file runs with other files than these. No daemon, or one
// of another pipeline, is nothing to note.
func notInService(ctx context.Context, cfg *config.Config, path string) []app.Finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := &client{base: "http://" + reachable(cfg.HTTP.Listen), http: direct()}
	var running status.Status
	if err := c.call(ctx, "/api/v1/status", nil, &running); err != nil || running.Pipeline != cfg.Pipeline || running.ConfigDigest == "" {
		return nil
	}
	if running.ConfigDigest == app.ContentDigest(cfg) {
		return nil
	}
	text := "the running daemon does not have these files yet: walpurge reload -c " + path
	if running.ReloadError != "" {
		text = "the running daemon does not have these files yet, its newest reload failed: " + running.ReloadError
	}
	return []app.Finding{{Note: true, Text: text}}
}
