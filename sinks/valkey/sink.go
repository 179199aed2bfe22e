package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
)

// patience bounds each wait on the server; together a call on a server that
// has fallen silent ends within ten seconds.
type patience struct {
	dial  time.Duration // connecting, and separately the greeting
	reply time.Duration // one pipeline of commands
}

var _ sinks.Sink = (*Sink)(nil)

// Sink purges one server or cluster.
type Sink struct {
	cfg      Config
	ep       endpoint
	tls      *tls.Config // nil without TLS
	patience patience
	log      *slog.Logger
	pace     *rate.Limiter // tokens are keys looked at by SCAN

	// lock is a mutex that a context can stop waiting for; it guards link and
	// closed.
	lock   chan struct{}
	link   *link
	closed bool

	// password is the one of the latest connect, kept to strike it from debug
	// lines.
	password atomic.Pointer[string]
}

// New returns a sink that has not connected yet: a server that is down does
// not keep the daemon from starting. The error is Validate's.
func New(cfg Config, logger *slog.Logger) (*Sink, error) {
	return newSink(cfg, patience{dial: 4 * time.Second, reply: 5 * time.Second}, logger)
}

func newSink(cfg Config, p patience, logger *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("valkey: %w", err)
	}
	ep, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("valkey: url: %w", err)
	}
	s := &Sink{
		cfg:      cfg,
		ep:       ep,
		patience: p,
		log:      logger,
		pace:     rate.NewLimiter(rate.Limit(cfg.Scan.KeysPerSecond), scanCount(cfg.Scan.KeysPerSecond)),
		lock:     make(chan struct{}, 1),
	}
	if ep.tls {
		// No ServerName: each node of a cluster is verified by its own name.
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Purge unlinks keys in pipelines, then walks the key space once for every
// pattern, which takes (number of keys / scan.keys_per_second) each. It blocks
// until the server has answered for all, ctx is over, or the server is silent
// for some seconds.
//
// Everything is carried out as the pattern key_prefix*; without a key_prefix
// it is a lane error, because the server may hold what is not ours.
func (s *Sink) Purge(ctx context.Context, batch []rules.Invalidation) error {
	if len(batch) == 0 {
		return nil
	}
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}

	failed := failures{}
	var keys work
	for i, inv := range batch {
		switch inv.Kind {
		case rules.Key:
			keys.add(i, s.cfg.KeyPrefix+inv.Value)
		case rules.KeyPattern:
		case rules.Everything:
			if s.cfg.KeyPrefix == "" {
				failed[i] = errNoFlush
			}
		default:
			failed[i] = sinks.ItemError(fmt.Errorf("valkey: cannot purge by %s; send keys or key patterns", inv.Kind))
		}
	}
	s.unlink(ctx, l, keys, failed)

	for i, inv := range batch {
		if failed[i] != nil || inv.Kind != rules.KeyPattern && inv.Kind != rules.Everything {
			continue
		}
		pattern := escapeGlob(s.cfg.KeyPrefix) + inv.Value
		if inv.Kind == rules.Everything {
			pattern = escapeGlob(s.cfg.KeyPrefix) + "*"
		}
		if err := s.walk(ctx, l, pattern); err != nil {
			failed[i] = err
		}
	}

	err = failed.result(len(batch))
	if freshMayHelp(err) {
		s.drop(l)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("valkey: purge stopped: %w", ctx.Err())
	}
	return err
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
		out = append(out, work{keys: keys})
	}
	i := 0
	for places := range slices.Chunk(w.places, n) {
		out[i].places = places
		i++
	}
	return out
}
