package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/plural"
)

func parkedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "List, retry or drop what a sink refused for good",
		Long: "What a sink will never take (a malformed tag, a value too long) is parked: it stays, and its sink\n" +
			"counts as stale, until it is retried or dropped.",
		Example: "  walpurge parked list\n  walpurge parked retry 17 18\n  walpurge parked drop --sink edge",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q; see walpurge parked --help", "parked "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(parkedListCommand(),
		unparkCommand("retry", "Hand parked messages to their lanes once more", "retried"),
		unparkCommand("drop", "Forget parked messages: their stale copies stay until they expire", "dropped"))
	return cmd
}

func parkedListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List parked messages with their values and the sink's answer",
		Example: "  walpurge parked list --sink edge",
		Args:    cobra.NoArgs,
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "one sink; default: every sink")
	asJSON := cmd.Flags().Bool("json", false, "print the daemon's answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var list []admin.Parked
		if err := c.call(cmd.Context(), "/api/v1/parked?"+url.Values{"sink": {*sink}}.Encode(), nil, &list); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), list)
		}
		printParked(cmd.OutOrStdout(), list)
		return nil
	}
	return cmd
}

func printParked(out io.Writer, list []admin.Parked) {
	if len(list) == 0 {
		fmt.Fprintln(out, "nothing is parked")
	}
	for _, p := range list {
		fmt.Fprintf(out, "%d  %s  %s  %s\n", p.ID, p.Sink, p.ParkedAt.Format(time.RFC3339), p.Error)
		for _, v := range p.Items {
			if v.Template != "" {
				fmt.Fprintf(out, "    %s (rule %s): not built for %d changes\n", strings.TrimSpace(v.Kind+" "+v.Template), v.Rule, v.Count)
				continue
			}
			// Values are data: a control character must not reach the terminal.
			fmt.Fprintf(out, "    %s %s (rule %s)\n", v.Kind, strconv.Quote(v.Value), v.Rule)
		}
	}
}

func unparkCommand(action, short, done string) *cobra.Command {
	cmd := &cobra.Command{
		Use: action + " [ID...]", Short: short,
		Example: fmt.Sprintf("  walpurge parked %s 17 18\n  walpurge parked %s --sink edge\n  walpurge parked %s --all", action, action, action),
		Args:    cobra.ArbitraryArgs,
	}
	flags := addDaemonFlags(cmd)
	sink := cmd.Flags().String("sink", "", "all of one sink")
	all := cmd.Flags().Bool("all", false, "all of every sink")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := admin.UnparkRequest{Action: action, Sink: *sink, All: *all}
		for _, arg := range args {
			id, err := strconv.ParseUint(arg, 10, 64)
			if err != nil {
				return usage(fmt.Errorf("%q is no id; walpurge parked list shows them", arg))
			}
			r.IDs = append(r.IDs, id)
		}
		if given := len(args) > 0; given == (*sink != "" || *all) {
			return usage(errors.New("name ids, or a sink with --sink, or --all"))
		}
		c, err := flags.client(cmd)
		if err != nil {
			return err
		}
		var answer struct {
			Done int `json:"done"`
		}
		if err := c.call(cmd.Context(), "/api/v1/parked", r, &answer); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", done, plural.Count(answer.Done, "message"))
		return nil
	}
	return cmd
}
