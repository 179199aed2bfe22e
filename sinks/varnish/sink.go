package varnish

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// leaveAlone is how long a node that has carried out a batch is not asked again
// because another node fails. The lane's longest pause is a third of it.
const leaveAlone = 30 * time.Second

var _ sinks.Sink = (*Sink)(nil)

// Sink purges all nodes of a Varnish cache.
type Sink struct {
	*httpsink.Base
	cfg   Config
	nodes []node
	log   *slog.Logger
	find  lookup
	// done holds which servers have carried out a batch that failed at others.
	done *httpsink.Memory[map[server]bool]
}

// New returns a sink that has not connected yet. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	return newSink(cfg, systemLookup, logger)
}

func newSink(cfg Config, find lookup, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("varnish: %w", err)
	}
	s := &Sink{
		Base: httpsink.NewBase("varnish", httpsink.Config{Idle: 1, TLS: cfg.TLS}),
		cfg:  cfg, log: logger, find: find,
		done: httpsink.NewMemory[map[server]bool](leaveAlone),
	}
	for _, text := range cfg.Nodes {
		n, err := parseNode(text)
		if err != nil {
			return nil, fmt.Errorf("varnish: nodes: %w", err)
		}
		s.nodes = append(s.nodes, n)
	}
	return s, nil
}

// Purge asks all nodes at once and blocks until each has answered, at most ten
// seconds. To a node, the requests of a batch go one after the other: all tags
// in one, each URL in its own.
//
// Values that Varnish can never take are not sent and come back in a
// *sinks.BatchError. If a node fails, that error is the whole batch's; a
// repetition of the very same call within half a minute leaves out the nodes
// that have carried it out.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if err := s.Admit(batch, maxItems); err != nil || len(batch) == 0 {
		return err
	}
	requests, failed := s.cfg.requests(batch)
	removed, counted, err := s.everywhere(ctx, httpsink.SumOf(batch), requests)
	if err != nil {
		return err
	}
	// A purge of everything leaves the tags out.
	if counted && s.cfg.Hits != nil && requests[0].kind != invalidation.Everything {
		tags := make([]invalidation.Invalidation, 0, len(batch))
		for i, inv := range batch {
			if inv.Kind == invalidation.Tag && failed[i] == nil {
				tags = append(tags, inv)
			}
		}
		httpsink.CountHits(tags, removed, s.cfg.Hits)
	}
	return httpsink.Refused(failed)
}

// everywhere sends the requests to all nodes. sum names what they carry. removed is how many objects the
// purges by tag removed; counted reports that every node said so in this call.
func (s *Sink) everywhere(ctx context.Context, sum httpsink.Sum, requests []request) (removed int, counted bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, fmt.Errorf("varnish: purge stopped: %w", err)
	}
	if len(requests) == 0 {
		return 0, false, nil
	}
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	servers, failures := s.resolve(bounded)
	nodes := len(servers) + len(failures)
	done, _ := s.done.Recall(sum, time.Now())
	var open []server
	for _, v := range servers {
		if !done[v] {
			open = append(open, v)
		}
	}
	errs, counts := make([]error, len(open)), make([]int, len(open))
	var all sync.WaitGroup
	for i, v := range open {
		all.Go(func() { counts[i], errs[i] = s.node(bounded, v, requests) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		s.done.Forget(sum)
		return 0, false, fmt.Errorf("varnish: purge stopped: %w", err)
	}
	now := maps.Clone(done)
	if now == nil {
		now = make(map[server]bool)
	}
	for i, err := range errs {
		if err != nil {
			failures = append(failures, failure{open[i].host, err})
			continue
		}
		now[open[i]] = true
	}
	err = joined(failures, nodes)
	if class, _ := sinks.ClassOf(err); err == nil || class == sinks.Item {
		// The lane is done with this call. The next equal one is another change.
		s.done.Forget(sum)
		counted = len(open) == nodes
		for _, n := range counts {
			removed += n
			counted = counted && n >= 0
		}
		return removed, counted, err
	}
	s.done.Remember(sum, now, time.Now())
	return 0, false, err
}

// resolve finds all servers, and what kept a node from being found.
func (s *Sink) resolve(ctx context.Context) (servers []server, failures []failure) {
	for _, n := range s.nodes {
		found, err := n.servers(ctx, s.find)
		if err != nil {
			failures = append(failures, failure{n.host, err})
			continue
		}
		for _, v := range found {
			if !slices.Contains(servers, v) {
				servers = append(servers, v)
			}
		}
	}
	return servers, failures
}

// node sends the requests to one server, up to the first that fails. It returns how many objects the purges
// by tag removed, or -1 where the server does not say so.
func (s *Sink) node(ctx context.Context, v server, requests []request) (removed int, err error) {
	for i := range requests {
		n, err := s.ask(ctx, v, requests[i])
		if err != nil {
			s.log.Debug("varnish node failed", "node", v.host, "request", i, "of", len(requests), "err", err)
			return -1, err
		}
		if requests[i].kind == invalidation.URL && s.cfg.Pages != nil {
			s.cfg.Pages(requests[i].value, n != 0)
		}
		if requests[i].kind != invalidation.Tag {
			continue
		}
		if n < 0 || removed < 0 {
			removed = -1
			continue
		}
		removed += n
	}
	return removed, nil
}

// ask sends one request. A node that refuses it is asked for a control purge of the same kind: one that
// refuses that too refuses everything, which is no fault of the values.
func (s *Sink) ask(ctx context.Context, v server, r request) (removed int, err error) {
	removed, err = s.send(ctx, v, r)
	if class, _ := sinks.ClassOf(err); err == nil || class != sinks.Item {
		return removed, err
	}
	_, control := s.send(ctx, v, s.cfg.control(r.kind))
	if class, _ := sinks.ClassOf(control); class == sinks.Item {
		return -1, sinks.LaneError(fmt.Errorf("%w: every purge by %s is refused, also a control purge that every such VCL takes; "+
			"the VCL expects other requests: call the sub in the documentation before them", control, r.kind))
	}
	if control != nil {
		return -1, control
	}
	return -1, sinks.ItemError(fmt.Errorf("%w: the request is refused; is http_req_hdr_len lower than its default?", err))
}

// send sends one request, and returns how many objects it removed; -1 if the answer does not say so.
func (s *Sink) send(ctx context.Context, v server, r request) (removed int, err error) {
	a, err := httpsink.Do(s.HTTP, r.http(ctx, v))
	if err != nil {
		return -1, err
	}
	if removed, err = strconv.Atoi(a.Header.Get(s.cfg.Confirm)); err != nil || removed < 0 {
		removed = -1
	}
	return removed, s.cfg.verdict(r.kind, a)
}

// Check reports whether every node answers purges of the kinds that the sink carries out, by purges that
// remove nothing. It blocks like Purge.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	var requests []request
	for _, kind := range []invalidation.Kind{invalidation.Tag, invalidation.URL, invalidation.URLPrefix} {
		if s.cfg.uses(kind) {
			requests = append(requests, s.cfg.control(kind))
		}
	}
	_, _, err := s.everywhere(ctx, httpsink.SumOf([]invalidation.Invalidation{{Kind: invalidation.Tag, Value: checkName}}), requests)
	return err
}
