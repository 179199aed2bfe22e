package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/status"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether caches are fresh, and where the lag is",
		Long: "Ask the running daemon for its condition. The first line is one sentence: FRESH, STALE, UNKNOWN or\n" +
			"NOT STREAMING, where and why. Exit 0 if every sink is fresh, else 1.",
		Example: "  walpurge status\n  walpurge status --watch\n  walpurge status --addr 10.0.0.7:7468 --json",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	watch := cmd.Flags().Bool("watch", false, "print again every second until Ctrl-C")
	asJSON := cmd.Flags().Bool("json", false, "print the document that the daemon gave")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		out := cmd.OutOrStdout()
		for {
			var s status.Status
			if err := c.call(ctx, "/api/v1/status", nil, &s); err != nil {
				return err
			}
			if *asJSON {
				if err := printJSON(out, s); err != nil {
					return err
				}
			} else {
				if *watch {
					fmt.Fprint(out, clearScreen)
				}
				printStatus(out, &s)
			}
			if !*watch {
				if !s.Fresh {
					return &exitError{code: 1}
				}
				return nil
			}
			if !pause(ctx, time.Second) {
				return nil
			}
		}
	}
	return cmd
}

// pause waits and reports whether the context lived through it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// printStatus writes a status for people.
func printStatus(out io.Writer, s *status.Status) {
	fmt.Fprintln(out, s.Summary)
	for _, p := range s.Problems {
		kind := "problem"
		if p.Covered {
			kind = "note"
		}
		fmt.Fprintf(out, "%s since %s: %s\n", kind, p.Since.Format(time.RFC3339), p.Text)
	}
	if names := s.Reader.SynchronousStandbyNames; names != "" {
		fmt.Fprintln(out, "note: "+postgres.SyncNamesText(names))
	}
	for _, slot := range s.InactiveSlots {
		fmt.Fprintf(out, "note: %s\n", slot.Fault())
	}
	for i := range s.Suspicions {
		fmt.Fprintln(out, "note: "+s.Suspicions[i].Text)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STAGE\tTARGET\tLSN\tBEHIND\tLAG")
	for _, m := range s.Watermarks {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Stage, m.Target, m.LSN, behind(m.LagBytes), seconds(m.LagSeconds))
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SINK\tKIND\tSTATE\tWAITING\tPARKED\tLAG\tERROR")
	for _, k := range s.Sinks {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", k.Name, k.Kind, k.State, k.Backlog, k.Parked, seconds(k.LagSeconds), k.Error)
	}
	_ = w.Flush()
	if len(s.Warms) > 0 {
		fmt.Fprintln(out)
		w = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "WARM\tSTATE\tWAITING\tWARMED\tFAILED\tTOO OLD\tNO ROOM\tERROR")
		for _, k := range s.Warms {
			fmt.Fprintf(w, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%s\n", k.Name, k.State, k.Waiting, k.Pages["warmed"], k.Pages["failed"], k.Pages["too_old"], k.Pages["no_room"], k.Error)
		}
		_ = w.Flush()
	}
	safe := ""
	if s.Slot.SafeBytes != nil {
		safe = fmt.Sprintf(", %s until it is lost", size(uint64(max(0, *s.Slot.SafeBytes))))
	}
	fmt.Fprintf(out, "\nreader %s, slot %s holds back %s%s\n", s.Reader.State, s.Slot.Name, size(uint64(max(0, s.Slot.RetainedBytes))), safe)
	if c := s.Reader.CatchUp; c != nil {
		fmt.Fprintln(out, catchingUp(c))
	}
	fmt.Fprintf(out, "stream %s of %s, replays reach back %s\n", size(uint64(s.Stream.Bytes)), size(uint64(s.Stream.LimitBytes)),
		(time.Duration(s.Stream.ReplayHorizonSeconds) * time.Second).String())
}

// barWidth is the width of the progress bar, in characters.
const barWidth = 40

// catchingUp prints how far a backlog is read.
func catchingUp(c *status.CatchUp) string {
	return fmt.Sprintf("backlog %s %s of the log left, %.0f changes/s, time left %s",
		bar(c.TotalBytes-min(c.LeftBytes, c.TotalBytes), c.TotalBytes), size(c.LeftBytes), c.ChangesPerSecond, seconds(c.Seconds))
}

// bar draws how much of something is done.
func bar(done, total uint64) string {
	n := 0
	if total > 0 {
		n = int(done * barWidth / total)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

// behind prints a distance in the log; nil is one that is not known.
func behind(n *uint64) string {
	if n == nil {
		return "unknown"
	}
	return size(*n)
}

// seconds prints a lag; nil is one that is not known.
func seconds(s *float64) string {
	if s == nil {
		return "unknown"
	}
	if *s < 60 {
		return strconv.FormatFloat(*s, 'f', 1, 64) + " s"
	}
	return time.Duration(*s * float64(time.Second)).Round(time.Second).String()
}

// size prints a number of bytes.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[i]
}
