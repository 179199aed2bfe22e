package valkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// patience bounds each wait on the server; together a call on a server that
// has fallen silent ends within ten seconds.
type patience struct {
	dial  time.Duration // connecting, and separately the greeting
	reply time.Duration // one pipeline of commands
	ask   time.Duration // how long to believe what a sentinel said
	idle  time.Duration // a connection without work is tried so often
}

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one server or cluster.
type Sink struct {
	cfg      Config
	ep       endpoint
	patience patience
	log      *slog.Logger
	// conditions is the log of what repeats.
	conditions *condition.Log
	pace       *rate.Limiter // tokens are keys looked at by SCAN
	layouts    []layout      // of tag sets
	asides     asides
	raiseSHA   string // of raiseScript
	publisher  *publisher

	// lock is a mutex that a context can stop waiting for; it guards link and
	// closed.
	lock   chan struct{}
	link   *link
	closed bool

	// clustered is set once the server is known to be a cluster.
	clustered atomic.Bool

	// password and sentinelPassword are those of the latest connect, kept to strike them from what a server said.
	password, sentinelPassword atomic.Pointer[string]
}

// New returns a sink that has not connected yet: a server that is down does
// not keep the daemon from starting. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	return newSink(cfg, patience{dial: 4 * time.Second, reply: 5 * time.Second, ask: time.Second, idle: 10 * time.Second}, logger)
}

func newSink(cfg Config, p patience, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("valkey: %w", err)
	}
	ep, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("valkey: url: %w", err)
	}
	s := &Sink{
		cfg:        cfg,
		ep:         ep,
		patience:   p,
		log:        logger,
		conditions: condition.NewLog(logger),
		pace:       rate.NewLimiter(rate.Limit(cfg.Scan.KeysPerSecond), scanCount(cfg.Scan.KeysPerSecond)),
		asides:     newAsides(),
		raiseSHA:   digest(raiseScript),
		lock:       make(chan struct{}, 1),
	}
	s.publisher = newPublisher(s)
	for _, t := range cfg.TagSets {
		l, _ := t.kind() // validated
		s.layouts = append(s.layouts, l.forms()...)
	}
	return s, nil
}

// Purge carries out, in this order: keys, by UNLINK in pipelines; fields of hashes, by HDEL; generations, by
// raising their counters; tags, by unlinking the members of their sets; and in one
// walk over the key space all key prefixes and patterns, which takes (number of
// keys / scan.keys_per_second). It blocks until the server has answered for all,
// ctx is over, or the server is silent for some seconds.
//
// Then the values that were purged are published, if the configuration names a channel: without
// waiting, and at most once.
//
// Everything is carried out as the pattern key_prefix*; without a key_prefix
// it is a lane error, because the server may hold what is not ours. So is a key
// prefix without text an item error.
func (s *Sink) Purge(ctx context.Context, batch []invalidation.Invalidation) error {
	if len(batch) == 0 {
		return nil
	}
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}

	failed := failures{}
	var keys byRule
	var hashes byHash
	var counters, tags work
	var patterns []glob
	for i, inv := range batch {
		switch {
		case inv.Kind == invalidation.Key:
			keys.add(inv.Rule, i, s.cfg.KeyPrefix+inv.Value)
		case inv.Kind == invalidation.Field:
			hashes.add(i, s.cfg.KeyPrefix, inv)
		case inv.Kind == invalidation.Generation:
			counters.add(i, s.cfg.KeyPrefix+inv.Value)
		case inv.Kind == invalidation.Tag && len(s.layouts) > 0:
			tags.add(i, inv.Value)
		case inv.Kind == invalidation.KeyPrefix && s.cfg.Scan.Enabled && inv.Value != "":
			patterns = append(patterns, newGlob(i, escapeGlob(s.cfg.KeyPrefix+inv.Value)+"*"))
		case inv.Kind == invalidation.KeyPattern:
			patterns = append(patterns, newGlob(i, escapeGlob(s.cfg.KeyPrefix)+inv.Value))
		case inv.Kind == invalidation.Everything && s.cfg.KeyPrefix != "":
			patterns = append(patterns, newGlob(i, escapeGlob(s.cfg.KeyPrefix)+"*"))
		default:
			failed[i] = s.cannot(inv)
		}
	}
	broken := s.unlink(ctx, l, keys.lists, failed)
	if broken == nil {
		broken = s.deleteFields(ctx, l, hashes.lists, failed)
	} else {
		for _, h := range hashes.lists {
			failed.all(h.names, broken)
		}
	}
	if broken == nil {
		broken = s.raise(ctx, l, counters, failed)
	} else {
		failed.all(counters, broken)
	}
	if broken == nil {
		broken = s.purgeTags(ctx, l, tags, failed)
	} else {
		failed.all(tags, s.classify("purging a tag", broken))
	}
	if broken == nil {
		s.walk(ctx, l, patterns, failed)
	}
	for _, g := range patterns {
		if broken != nil {
			failed[g.place] = s.classify("SCAN", broken)
		}
	}

	s.publisher.publish(l, batch, failed)
	err = failed.result(len(batch))
	if freshMayHelp(err) {
		s.drop(l)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("valkey: purge stopped: %w", ctx.Err())
	}
	return err
}

// cannot says why an invalidation is refused whatever the server holds.
func (s *Sink) cannot(inv invalidation.Invalidation) error {
	switch {
	case inv.Kind == invalidation.Everything:
		return errNoFlush
	case inv.Kind == invalidation.KeyPrefix && inv.Value == "":
		return sinks.ItemError(errors.New("valkey: an empty key prefix would purge everything; name one with text in it"))
	}
	why := s.cfg.Hints()[inv.Kind]
	if why == "" {
		why = "send " + s.cfg.Kinds().String()
	}
	return sinks.ItemError(fmt.Errorf("valkey: cannot purge by %s; %s", inv.Kind, why))
}

var errNoFlush = sinks.LaneError(errors.New(
	"valkey: a purge of everything needs key patterns: set flush.key_patterns of this sink, or its key_prefix"))

// failures maps places of a batch to their errors.
type failures map[int]error

// result folds the failures of a batch of n into what Purge returns.
func (f failures) result(n int) error {
	if len(f) == 0 {
		return nil
	}
	if len(f) < n {
		return &sinks.BatchError{Failed: f}
	}
	// Nothing was carried out. One class for all says it shorter.
	first, _ := sinks.ClassOf(f[0])
	for _, err := range f {
		if class, _ := sinks.ClassOf(err); class != first {
			return &sinks.BatchError{Failed: f}
		}
	}
	if first == sinks.Item {
		return &sinks.BatchError{Failed: f}
	}
	return f[0]
}

// work is a list of keys, each with its place in the batch.
type work struct {
	rule   string // empty where they are of several
	places []int
	keys   []string
}

func (w *work) add(place int, key string) {
	w.places = append(w.places, place)
	w.keys = append(w.keys, key)
}

// chunks cuts the list into lists of at most n.
func (w work) chunks(n int) []work {
	var out []work
	for keys := range slices.Chunk(w.keys, n) {
		out = append(out, work{rule: w.rule, keys: keys})
	}
	i := 0
	for places := range slices.Chunk(w.places, n) {
		out[i].places = places
		i++
	}
	return out
}
