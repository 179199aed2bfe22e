package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

const help = `release build -version V [-out dist] [-platforms linux/amd64,...]   binaries, SBOMs, SHA256SUMS
release sbom -version V BINARY                                      CycloneDX JSON of a Go binary
release man -version V [-out dist/man]                              manual pages
release completion [-out dist/completion]                           for bash, zsh and fish
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say what to make:\n" + help)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	version := flags.String("version", "dev", "the version to stamp")
	dir := flags.String("out", "", "the directory to write to")
	platforms := flags.String("platforms", strings.Join(all, ","), "GOOS/GOARCH, with commas")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if strings.ContainsAny(*version, " /\\") || *version == "" {
		return fmt.Errorf("version %q: it becomes part of file names; no spaces or slashes", *version)
	}
	switch args[0] {
	case "build":
		return build(ctx, buildConfig{Version: *version, Out: or(*dir, "dist"), Platforms: strings.Split(*platforms, ","), Say: out})
	case "sbom":
		if flags.NArg() != 1 {
			return errors.New("sbom takes one binary")
		}
		return writeSBOM(out, flags.Arg(0), *version)
	case "man":
		return writeMan(or(*dir, "dist/man"), *version)
	case "completion":
		return writeCompletion(or(*dir, "dist/completion"))
	}
	return fmt.Errorf("%q is not one of:\n%s", args[0], help)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
