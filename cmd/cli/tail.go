package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func tailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Watch invalidations as they are purged",
		Long: "Print every invalidation that a sink has purged, one a line, from now on until Ctrl-C. A terminal that\n" +
			"is too slow misses some.",
		Example: "  walpurge tail\n  walpurge tail --sink edge --json",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "one sink; default: every sink")
	asJSON := cmd.Flags().Bool("json", false, "print the payloads, one a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		body, err := c.open(ctx, "/api/v1/tail?"+url.Values{"sink": {*sink}}.Encode(), nil)
		if err != nil {
			return asUsage(err)
		}
		defer body.Close()
		out := cmd.OutOrStdout()
		lines := bufio.NewReader(body)
		for {
			line, err := lines.ReadBytes('\n')
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("the daemon ended the connection: %w", noEOF(err))
			}
			if *asJSON {
				_, err = out.Write(line)
			} else {
				err = printPurged(out, line)
			}
			if err != nil {
				return err
			}
		}
	}
	return cmd
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it stopped")
	}
	return err
}

// quoted is a value as a word that no terminal takes for a command. A field of a hash is two words.
func quoted(kind invalidation.Kind, value string) string {
	if kind == invalidation.Field {
		key, field := invalidation.SplitField(value)
		return strconv.Quote(key) + " " + strconv.Quote(field)
	}
	return strconv.Quote(value)
}

// printPurged writes one line for each invalidation of a payload.
func printPurged(out io.Writer, payload []byte) error {
	b, err := invalidation.Decode(payload)
	if b == nil {
		return fmt.Errorf("read a purged batch: %w", err)
	}
	head := time.Now().Format("15:04:05.000") + "  " + b.Sink
	var text strings.Builder
	if b.Flush {
		fmt.Fprintf(&text, "%s  flush (%s)\n", head, b.Reason)
	}
	for _, inv := range b.Invalidations(nil) {
		fmt.Fprintf(&text, "%s  %s %s  %s\n", head, inv.Kind, quoted(inv.Kind, inv.Value), inv.Rule)
	}
	if err != nil {
		fmt.Fprintf(&text, "%s  more: %v\n", head, err)
	}
	_, err = io.WriteString(out, text.String())
	return err
}
