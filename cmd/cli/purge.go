package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge --sink NAME [--field KEY FIELD]",
		Short: "Purge values of your choice, or everything, ahead of the queue",
		Long: "Store a manual purge for a sink. It is durable when the command ends, and is carried out ahead of the\n" +
			"sink's queue, as soon as the sink takes it. --all carries out the sink's flush plan, which may be a purge\n" +
			"of EVERYTHING: look at its --dry-run first. --all asks for the pipeline's name, unless --yes is given.\n" +
			"--supersede also drops what is waiting in the queue: you vouch that the purge covers it.\n" +
			"--field takes the key of a hash and a field of it.",
		Example: "  walpurge purge --sink cache --key product:7 --key product:8\n" +
			"  walpurge purge --sink cache --field products 7\n" +
			"  walpurge purge --sink edge --tag products --supersede\n" +
			"  walpurge purge --sink edge --all --dry-run",
		Args: cobra.ArbitraryArgs,
	}
	flags := addDaemonFlags(cmd)
	var r admin.PurgeRequest
	f := cmd.Flags()
	f.StringVar(&r.Sink, "sink", "", "the sink")
	hashes := new([]string)
	for _, k := range invalidation.InRules() {
		flag := strings.ReplaceAll(k.String(), "_", "-")
		if k == invalidation.Field {
			f.StringArrayVar(hashes, flag, nil, k.One())
			continue
		}
		f.StringArrayVar(&r.Values[k], flag, nil, k.One())
	}
	f.BoolVar(&r.All, "all", false, "everything that the sink's flush plan names")
	f.BoolVar(&r.Supersede, "supersede", false, "drop what is waiting in the sink's queue")
	f.BoolVar(&r.DryRun, "dry-run", false, "say what would be purged, where, in how many requests, and how long it takes; purge nothing")
	yes := f.Bool("yes", false, "with --all: do not ask for the pipeline's name")
	asJSON := f.Bool("json", false, "print the daemon's answer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != len(*hashes) {
			return usage(fmt.Errorf("--field is given %d times with %s beside it; write --field KEY FIELD for each field of a hash, like --field products 7",
				len(*hashes), plural.Count(len(args), "argument")))
		}
		for i, key := range *hashes {
			r.Values[invalidation.Field] = append(r.Values[invalidation.Field], invalidation.JoinField(key, args[i]))
		}
		if r.Sink == "" {
			return usage(errors.New("--sink is missing: name the sink to purge; see walpurge status"))
		}
		ask := r.All && !r.DryRun && !*yes
		if ask && !isTerminal(cmd.InOrStdin()) {
			return usage(errors.New("--all asks for the pipeline's name, and there is no terminal to ask on: look at its --dry-run, then add --yes; nothing was purged"))
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		if ask {
			if err := confirmPurge(cmd, c, r); err != nil {
				return err
			}
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

// confirmPurge shows what a purge would do, and has the operator type the pipeline's name.
func confirmPurge(cmd *cobra.Command, c *client, r admin.PurgeRequest) error {
	r.DryRun = true
	var would admin.PurgeReport
	if err := c.call(cmd.Context(), "/api/v1/purge", r, &would); err != nil {
		return err
	}
	printPurge(cmd.ErrOrStderr(), r, would)
	fmt.Fprint(cmd.ErrOrStderr(), "Type the pipeline's name to go on: ")
	line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if name := strings.TrimSpace(line); name == "" || name != would.Pipeline {
		return usage(fmt.Errorf("%q is not the name of the pipeline; nothing was purged", name))
	}
	return nil
}

// isTerminal reports whether a reader or writer is a terminal, where the operator is. The null device is a character
// device, too.
func isTerminal(in any) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && (nullErr != nil || !os.SameFile(info, null))
}

func printPurge(out io.Writer, r admin.PurgeRequest, report admin.PurgeReport) {
	verb := "queued"
	if report.DryRun {
		verb = "would purge"
	}
	counts := plural.Count(report.Items, "item") + " in " + plural.Count(report.Requests, "request")
	if r.All {
		fmt.Fprintf(out, "%s: %s at %s (%s, %s), %s", verb, whatAllPurges(report), r.Sink, report.Kind, report.Where, counts)
	} else {
		fmt.Fprintf(out, "%s: %s at %s", verb, counts, r.Sink)
	}
	took := time.Duration(report.Seconds * float64(time.Second)).Round(time.Second)
	switch {
	case report.SecondsUnknown != "":
		fmt.Fprintf(out, ", time unknown: %s", report.SecondsUnknown)
	case took > 0:
		fmt.Fprintf(out, ", about %s at its limits", took)
	case r.All:
		fmt.Fprint(out, ", not held back by its limits")
	}
	fmt.Fprintln(out)
	if report.Shadow {
		fmt.Fprintln(out, "the sink is in shadow mode: it purges nothing")
	}
	if w := report.Waiting; w != nil {
		drops := "--supersede would drop: "
		if r.Supersede {
			drops = "would drop: "
		}
		if w.More {
			drops += "more than "
		}
		fmt.Fprintf(out, "%s%s waiting in %s\n", drops, plural.Count(w.Items, "item"), plural.Count(w.Messages, "message"))
	}
}

// whatAllPurges names what a flush plan purges.
func whatAllPurges(report admin.PurgeReport) string {
	if report.Everything {
		return "EVERYTHING"
	}
	const most = 3
	var names []string
	for _, step := range report.Plan {
		if len(names) == most {
			names = append(names, fmt.Sprintf("%d more", len(report.Plan)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s %q", strings.ReplaceAll(step.Kind, "_", " "), step.Value))
	}
	return strings.Join(names, ", ")
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
	var length time.Duration
	if name == "pause" {
		cmd.Flags().DurationVar(&length, "for", 0, "resume by itself after this `time`, such as 30m; default: not before walpurge resume")
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *sink == "" {
			return usage(errors.New("--sink is missing: name the sink; see walpurge status"))
		}
		body := map[string]string{"sink": *sink}
		switch {
		case length < 0 || cmd.Flags().Changed("for") && length == 0:
			return usage(fmt.Errorf("--for %s: write a time above 0, such as 30m", length))
		case length > 0:
			body["for"] = length.String()
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var answer struct{}
		if err := c.call(cmd.Context(), "/api/v1/"+name, body, &answer); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%sd %s\n", name, *sink)
		return nil
	}
	return cmd
}
