package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/sinks/warm"
)

// shownFailures is how many pages that failed are named.
const shownFailures = 20

func warmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "warm --urls FILE | --sitemap URL",
		Short: "Fetch a list of pages through the edge, before visitors do",
		Long: "Fetch the pages of a file, one URL in a line, or of a sitemap, through the edge that a warm sink of the\n" +
			"configuration file names: for cron, a systemd timer or a Kubernetes CronJob before a known rush. Nothing is\n" +
			"purged, and neither daemon nor database is needed. URLs of other hosts are left out and counted.\n" +
			"Exit 0 when all pages were fetched, 1 when some were not, 2 when the list or the file cannot be used.",
		Example: "  walpurge warm -c walpurge.yaml --urls pages.txt\n  walpurge warm -c walpurge.yaml --sitemap https://shop.example/sitemap.xml --rate 20\n" +
			"  psql -Atc \"SELECT '/p/' || slug FROM products\" | walpurge warm --urls -",
		Args: cobra.NoArgs,
	}
	file := configFlag(cmd)
	urls := cmd.Flags().String("urls", "", "file with a URL, or a path at the edge, in each line; - for the standard input")
	sitemap := cmd.Flags().String("sitemap", "", "address of a sitemap, or of one that names others; may be gzipped")
	sink := cmd.Flags().String("sink", "", "one sink; needed where the file has several of the kind warm")
	perSecond := cmd.Flags().Float64("rate", 0, "requests per second; default: requests_per_second of the sink")
	asJSON := cmd.Flags().Bool("json", false, "print what became of the pages as a document")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (*urls == "") == (*sitemap == "") {
			return usage(errors.New("name the pages by either --urls FILE or --sitemap URL; see walpurge warm --help"))
		}
		cfg, marker, err := warmSink(*file, *sink)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("rate") {
			cfg.RequestsPerSecond = *perSecond
		}
		f, err := warm.NewFetcher(cfg, marker)
		if err != nil {
			return usage(err)
		}
		defer f.Close()
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		list, err := pages(ctx, cmd.InOrStdin(), *urls, *sitemap, cfg.Base)
		if err != nil {
			return err
		}
		if len(list.URLs) == 0 {
			return usage(fmt.Errorf("no page to warm: %s of other hosts than the edge's", plural.Count(list.Foreign, "URL")))
		}
		p := &progress{out: cmd.ErrOrStderr(), total: len(list.URLs), began: time.Now()}
		if t, is := p.out.(terminal); is {
			p.live = isTerminal(t.raw)
		}
		stopped := warm.FetchAll(ctx, f, cfg, list.URLs, p.page)
		p.clear()
		report := warmReport{Pages: p.total, Warmed: p.warmed, Failed: p.failed, NotTried: p.total - p.warmed - p.failed, OtherHosts: list.Foreign, Seconds: time.Since(p.began).Seconds()}
		if *asJSON {
			if err := printJSON(cmd.OutOrStdout(), report); err != nil {
				return err
			}
		} else {
			printWarm(cmd.OutOrStdout(), report)
		}
		switch {
		case errors.Is(stopped, warm.ErrDead):
			return fmt.Errorf("%w: %w; repair the edge, or correct warm.base", stopped, p.last)
		case stopped != nil:
			return errors.New("stopped before the end of the list")
		case p.failed > 0:
			return &exitError{code: 1}
		}
		return nil
	}
	return cmd
}

// warmSink returns the keys of a warm sink, and the value of the header of its requests.
func warmSink(file, name string) (warm.Config, string, error) {
	// Neither the rules nor the variables of other blocks are needed.
	cfg, err := config.Load(file, config.Options{Env: os.LookupEnv, Offline: true, WithoutRules: true})
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			err = usage(err)
		}
		return warm.Config{}, "", err
	}
	var names []string
	for _, w := range cfg.Warms {
		names = append(names, w.Name)
		if name != "" && name != w.Name || name == "" && len(cfg.Warms) > 1 {
			continue
		}
		all := []string{w.Config.Base, w.Config.TLS.CAFile}
		for _, set := range append(w.Config.Variants, w.Config.Headers) {
			for _, values := range set {
				all = append(all, values...)
			}
		}
		for _, text := range all {
			if strings.Contains(text, "${") {
				return warm.Config{}, "", usage(fmt.Errorf("%s: sink %s: an environment variable that its block names is not set", file, w.Name))
			}
		}
		return *w.Config, cfg.Pipeline + "/" + w.Name, nil
	}
	switch {
	case len(names) == 0:
		return warm.Config{}, "", usage(fmt.Errorf("%s has no sink of the kind warm; add one, such as hot: {warm: {base: \"https://shop.example\"}, after: [edge]}", file))
	case name == "":
		return warm.Config{}, "", usage(fmt.Errorf("%s has several sinks of the kind warm; name one with --sink: %s", file, strings.Join(names, ", ")))
	}
	return warm.Config{}, "", usage(fmt.Errorf("%s has no sink %q of the kind warm; there is %s", file, name, strings.Join(names, ", ")))
}

// pages reads the list.
func pages(ctx context.Context, stdin io.Reader, urls, sitemap, base string) (*warm.List, error) {
	if sitemap != "" {
		list, err := warm.ReadSitemap(ctx, sitemap, base)
		if err != nil {
			return nil, usage(err)
		}
		return list, nil
	}
	from := stdin
	if urls != "-" {
		f, err := os.Open(urls)
		if err != nil {
			return nil, usage(fmt.Errorf("--urls: %w", err))
		}
		defer f.Close()
		from = f
	}
	list, err := warm.ReadURLs(from, base)
	if err != nil {
		return nil, usage(fmt.Errorf("--urls %s: %w", urls, err))
	}
	return list, nil
}

// progress shows what has become of pages.
type progress struct {
	out                   io.Writer
	live                  bool
	total, warmed, failed int
	began, drawn          time.Time
	last                  error
}

// page notes the outcome of a page.
func (p *progress) page(url string, err error) {
	if err == nil {
		p.warmed++
	} else {
		p.failed++
		p.last = err
		p.clear()
		switch {
		case p.failed <= shownFailures:
			fmt.Fprintf(p.out, "%s: %v\n", url, err)
		case p.failed == shownFailures+1:
			fmt.Fprintln(p.out, "further pages that fail are counted only")
		}
	}
	if p.live && time.Since(p.drawn) > 100*time.Millisecond {
		p.draw()
	}
}

func (p *progress) draw() {
	p.clear()
	p.drawn = time.Now()
	done := p.warmed + p.failed
	left := time.Since(p.began).Seconds() / float64(max(done, 1)) * float64(p.total-done)
	fmt.Fprintf(p.out, "%s %d of %d, %d failed, time left %s", bar(uint64(done), uint64(p.total)), done, p.total, p.failed, seconds(&left))
}

func (p *progress) clear() {
	if p.live && !p.drawn.IsZero() {
		fmt.Fprint(p.out, clearLine)
	}
}

// warmReport is what has become of a list.
type warmReport struct {
	Pages      int     `json:"pages"`
	Warmed     int     `json:"warmed"`
	Failed     int     `json:"failed"`
	NotTried   int     `json:"not_tried"`
	OtherHosts int     `json:"other_hosts"`
	Seconds    float64 `json:"seconds"`
}

func printWarm(out io.Writer, r warmReport) {
	fmt.Fprintf(out, "warmed %d of %s in %s", r.Warmed, plural.Count(r.Pages, "page"), seconds(&r.Seconds))
	for _, n := range []struct {
		count int
		text  string
	}{{r.Failed, "failed"}, {r.NotTried, "not tried"}, {r.OtherHosts, "of other hosts left out"}} {
		if n.count > 0 {
			fmt.Fprintf(out, ", %d %s", n.count, n.text)
		}
	}
	fmt.Fprintln(out)
}
