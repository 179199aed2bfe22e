package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/plural"
)

func purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge --sink NAME",
		Short: "Purge by hand, ahead of the queue",
		Long: "Hand values to a sink's lane, ahead of whatever waits there; the purge is stored before the command\n" +
			"ends, and carried out as soon as the sink takes it. --all carries out the sink's flush plan.\n" +
			"--supersede also drops what waits in the lane: you vouch that the purge covers it.",
		Example: "  walpurge purge --sink cache --key product:7 --key product:8\n" +
			"  walpurge purge --sink edge --tag products --supersede\n" +
			"  walpurge purge --sink edge --all --dry-run",
		Args: cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	var r admin.PurgeRequest
	f := cmd.Flags()
	f.StringVar(&r.Sink, "sink", "", "the sink")
	f.StringArrayVar(&r.Keys, "key", nil, "a key")
	f.StringArrayVar(&r.Tags, "tag", nil, "a tag")
	f.StringArrayVar(&r.URLs, "url", nil, "a URL")
	f.StringArrayVar(&r.URLPrefixes, "url-prefix", nil, "host and beginning of the path")
	f.StringArrayVar(&r.KeyPrefixes, "key-prefix", nil, "all keys that begin so")
	f.StringArrayVar(&r.Generations, "generation", nil, "a counter to raise")
	f.BoolVar(&r.All, "all", false, "everything that the sink's flush plan names")
	f.BoolVar(&r.Supersede, "supersede", false, "drop what waits in the lane")
	f.BoolVar(&r.DryRun, "dry-run", false, "say items, requests and time, and purge nothing")
	asJSON := f.Bool("json", false, "print the daemon's answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.Sink == "" {
			return usage(errors.New("--sink is missing: name the sink to purge; see walpurge status"))
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var report admin.PurgeReport
		if err := c.call(cmd.Context(), "/api/v1/purge", r, &report); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), report)
		}
		printPurge(cmd.OutOrStdout(), r, report)
		return nil
	}
	return cmd
}

func printPurge(out io.Writer, r admin.PurgeRequest, report admin.PurgeReport) {
	verb := "queued"
	if report.DryRun {
		verb = "would purge"
	}
	took := time.Duration(report.Seconds * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(out, "%s: %s in %s at %s", verb, plural.Count(report.Items, "item"), plural.Count(report.Requests, "request"), r.Sink)
	if took > 0 {
		fmt.Fprintf(out, ", about %s at its limits", took)
	}
	fmt.Fprintln(out)
}

func replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Purge again what the stream still holds",
		Long: "Purge once more what was published since a time or from an LSN on, as far as the stream reaches back\n" +
			"(walpurge status says how far). Always safe: at worst copies are fetched again.",
		Example: "  walpurge replay --since 1h\n  walpurge replay --from 0/16B3748 --sink edge",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "one sink; default: every sink")
	since := cmd.Flags().Duration("since", 0, "how far back, such as 1h")
	from := cmd.Flags().String("from", "", "the first LSN")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (*since > 0) == (*from != "") {
			return usage(errors.New("say how far back with --since, or from where with --from; see walpurge replay --help"))
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		r := admin.ReplayRequest{Sink: *sink, From: *from}
		if *since > 0 {
			r.Since = time.Now().Add(-*since)
		}
		var report admin.ReplayReport
		if err := c.call(cmd.Context(), "/api/v1/replay", r, &report); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "queued again: %s in %s\n", plural.Count(report.Items, "invalidation"), plural.Count(report.Messages, "message"))
		return nil
	}
	return cmd
}

// pauseCommand makes pause and resume.
func pauseCommand(name, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " --sink NAME", Short: short, Long: long,
		Example: "  walpurge " + name + " --sink edge",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "the sink")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *sink == "" {
			return usage(errors.New("--sink is missing: name the sink; see walpurge status"))
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var answer struct{}
		if err := c.call(cmd.Context(), "/api/v1/"+name, map[string]string{"sink": *sink}, &answer); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%sd %s\n", name, *sink)
		return nil
	}
	return cmd
}
