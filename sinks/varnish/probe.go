package varnish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

const (
	// probePath is where probe pages lie. The VCL stores them for a minute at most.
	probePath = "/walpurge-probe/"
	// probeHeader carries a serial to the VCL, which returns the one that the page was stored under.
	probeHeader = "Walpurge-Probe"
	// probeTags makes the VCL store the page, with these tags.
	probeTags = "Walpurge-Probe-Tags"
)

// Probe proves that each node purges what it is asked to. At every address it stores pages of its own
// under probePath, purges some of them by each kind of purge that the rules use, and reads all of them
// again: those must be gone, and a control page must have stayed. Each purge by tag names two tags, of
// which the node has pages for one. Probe removes its pages before it returns. It blocks for at most ten
// seconds, and the error joins one for each node that failed.
func (s *Sink) Probe(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	servers, failures := s.resolve(ctx)
	var errs []error
	for _, f := range failures {
		errs = append(errs, fmt.Errorf("varnish: %s: %w", f.node, f.err))
	}
	proofs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, v := range servers {
		all.Go(func() {
			if err := s.probe(ctx, v); err != nil {
				proofs[i] = fmt.Errorf("varnish: probe of %s: %w", v.host, err)
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, proofs...)...)
}

// page is one page of a probe.
type page struct {
	path, tag string
	// header has the variant that the page is stored under.
	header http.Header
	asked  bool
	serial string // under which the node has stored it
}

var errNoProbe = errors.New("the VCL stores no probe pages, so nothing is proven; add what the documentation's VCL has for " + probeHeader)

func (s *Sink) probe(ctx context.Context, v server) error {
	run := rand.Text()
	name := func(part string) *page {
		return &page{path: probePath + run + "/" + part, tag: "walpurge-probe-" + run + "-" + part}
	}
	control := name("control")
	steps := s.probeSteps(v, run, name)
	pages := []*page{control}
	for _, step := range steps {
		pages = append(pages, step.page)
	}
	defer s.removeProbe(ctx, v, pages)
	for _, p := range pages {
		p.asked = true
		serial, err := s.readProbe(ctx, v, p, true)
		if err != nil {
			return err
		}
		p.serial = serial
	}
	for _, p := range pages {
		if err := s.expect(ctx, v, p, true); err != nil {
			return fmt.Errorf("a page that was just stored: %w", err)
		}
	}
	for _, step := range steps {
		for _, r := range step.requests {
			if _, err := s.ask(ctx, v, r); err != nil {
				return fmt.Errorf("purging %s: %w", step.what, err)
			}
		}
		if err := s.expect(ctx, v, step.page, false); err != nil {
			return fmt.Errorf("purging %s: the node answered that it did, but %w", step.what, err)
		}
		if err := s.expect(ctx, v, control, true); err != nil {
			return fmt.Errorf("purging %s: of a page that has another tag and URL: %w", step.what, err)
		}
	}
	return nil
}

// probeStep is one purge and the page that it must remove.
type probeStep struct {
	what     string
	requests []request
	page     *page
}

func (s *Sink) probeSteps(v server, run string, name func(string) *page) (steps []probeStep) {
	unknown := "walpurge-probe-" + run + "-unknown"
	if s.cfg.uses(invalidation.Tag) {
		// A VCL that reads only the first or only the last tag fails one of the two.
		first, last := name("first"), name("last")
		steps = append(steps,
			probeStep{"two tags, of which the first has a page", []request{s.cfg.tagRequest(first.tag + " " + unknown)}, first},
			probeStep{"two tags, of which the last has a page", []request{s.cfg.tagRequest(unknown + " " + last.tag)}, last})
	}
	if s.cfg.uses(invalidation.URL) {
		p := name("url")
		requests, err := s.cfg.urlRequests(v.scheme + "://" + v.host + p.path)
		if err == nil {
			// A purge that leaves variants out would leave the last one.
			p.header = requests[len(requests)-1].header.Clone()
			p.header.Del(softHeader)
			steps = append(steps, probeStep{"a URL", requests, p})
		}
	}
	if s.cfg.uses(invalidation.URLPrefix) || s.cfg.uses(invalidation.Everything) {
		p := name("prefix/page")
		steps = append(steps, probeStep{"a URL prefix", []request{prefixBan(v.host, probePath+run+"/prefix/")}, p})
	}
	return steps
}

// readProbe asks for a page, and to store it. It returns the serial that the node has stored the page
// under, or that of this request if it had none.
func (s *Sink) readProbe(ctx context.Context, v server, p *page, store bool) (string, error) {
	serial := rand.Text()
	r := request{method: http.MethodGet, path: url.URL{Path: p.path}, header: http.Header{}}
	maps.Copy(r.header, p.header)
	r.header.Set(probeHeader, serial)
	if store {
		r.header.Set(probeTags, p.tag)
	}
	a, err := httpsink.Do(s.HTTP, r.http(ctx, v))
	if err != nil {
		return "", err
	}
	said := a.Header.Get(probeHeader)
	switch {
	case a.Status != http.StatusOK || said == "":
		return "", errNoProbe
	case store && said != serial:
		return "", errors.New("the node answered with a page that it cannot have")
	}
	return said, nil
}

// expect reports a page that is in the cache or is not, contrary to what it should be.
func (s *Sink) expect(ctx context.Context, v server, p *page, stored bool) error {
	said, err := s.readProbe(ctx, v, p, false)
	switch {
	case err != nil:
		return err
	case stored && said != p.serial:
		return errors.New("it is not in the cache any more; does another node answer at this address?")
	case !stored && said == p.serial:
		return errors.New("the page is still there")
	}
	return nil
}

// removeProbe removes what the probe may have stored, by URL or else by tag. What neither removes
// expires within a minute.
func (s *Sink) removeProbe(ctx context.Context, v server, pages []*page) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
	defer cancel()
	for _, p := range pages {
		if !p.asked {
			break
		}
		byURL := request{kind: invalidation.URL, method: "PURGE", path: url.URL{Path: p.path}, header: http.Header{}}
		maps.Copy(byURL.header, p.header)
		if _, err := s.send(ctx, v, byURL); err != nil {
			_, _ = s.send(ctx, v, s.cfg.tagRequest(p.tag))
		}
	}
}
