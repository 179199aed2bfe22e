// Command drainbench compares the daemon's rate with PostgreSQL's own decoding
// rate; see package bench.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/walpurge/walpurge/integration/bench"
)

func main() {
	walpurge := flag.String("walpurge", "bin/walpurge", "the program to measure")
	rows := flag.Int("rows", 1_000_000, "size of the backlog")
	rounds := flag.Int("rounds", 3, "alternating rounds")
	kinds := flag.String("kinds", "abclmnou", "a: 1,000 rows a transaction, b: one, c: all in one, l: latency at 500 transactions a second, m: at 2,000, n: a with column lists against a without, o: b after an outage, beside an even load, u: a by a Unix socket")
	results := flag.String("results", "", "file for the figures in JSON")
	flag.Parse()
	if err := run(*walpurge, *rows, *rounds, *kinds, *results); err != nil {
		fmt.Fprintln(os.Stderr, "drainbench:", err)
		os.Exit(1)
	}
}

func run(walpurge string, rows, rounds int, kinds, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cfg := bench.Config{Walpurge: walpurge, Rows: rows, Rounds: rounds, Out: os.Stdout, Log: os.Stderr}
	for _, k := range bench.Kinds {
		if strings.Contains(kinds, k.Name) {
			cfg.Kinds = append(cfg.Kinds, k)
		}
	}
	out, err := bench.Run(ctx, cfg)
	if err != nil || file == "" {
		return err
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}
