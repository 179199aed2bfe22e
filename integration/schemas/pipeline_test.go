package schemas

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// stream is in the place of JetStream and of the store: it keeps what is published and claimed over
// restarts of the pipeline.
type stream struct {
	mu      sync.Mutex
	batches []*invalidation.Batch
	last    cdc.Claim
	found   bool
	seq     uint64
	seen    []byte
	board   *watermark.Board
	changed chan struct{}
	// dead reports that the process that stores is killed.
	dead bool
}

var errKilled = errors.New("the daemon is killed")

func (s *stream) die(dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = dead
}

func (s *stream) Publish(_ context.Context, b *invalidation.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	s.seq++
	s.batches = append(s.batches, b)
	return nil
}

func (s *stream) Claim(_ context.Context, at cdc.Position, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	s.seq++
	s.last.Position = at
	s.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
	s.wake()
	return nil
}

func (s *stream) Begin(_ context.Context, first cdc.Claim, _ uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	s.seq++
	s.last, s.found = first, true
	s.board.Advance(watermark.Mark{Stage: watermark.Synced}, first.Position)
	return nil
}

func (s *stream) Flushed(context.Context) error { return nil }

func (s *stream) LastClaim(context.Context) (cdc.Claim, uint64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.seq, s.found, nil
}

// Load and Save are the memory of the reader.
func (s *stream) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, nil
}

func (s *stream) Save(_ context.Context, seen []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	s.seen = slices.Clone(seen)
	return nil
}

// wake ends the waits of reach. The caller holds the lock.
func (s *stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// since returns the batches from the nth on.
func (s *stream) since(n int) []*invalidation.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches[n:])
}

func (s *stream) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.batches)
}

const markPrefix = "schemas.mark"

// line is the router, and the ends of the transactions in which the test has written a mark.
type line struct {
	*router.Router
	stream *stream
	mark   string
	ends   map[string]cdc.LSN // guarded by the stream's lock
}

func (l *line) Message(ctx context.Context, tx *cdc.Txn, prefix string, content []byte) error {
	if prefix == markPrefix {
		l.mark = string(content)
		return nil
	}
	return l.Router.Message(ctx, tx, prefix, content)
}

func (l *line) Commit(ctx context.Context, tx *cdc.Txn) error {
	if l.mark != "" {
		l.stream.mu.Lock()
		l.ends[l.mark] = tx.End
		l.stream.mu.Unlock()
		l.mark = ""
	}
	return l.Router.Commit(ctx, tx)
}

// reach waits until all that was committed before the mark is published.
func (l *line) reach(ctx context.Context, mark string) error {
	for {
		l.stream.mu.Lock()
		end, known := l.ends[mark]
		if known && l.stream.last.Position.LSN >= end {
			l.stream.mu.Unlock()
			return nil
		}
		if l.stream.changed == nil {
			l.stream.changed = make(chan struct{})
		}
		changed := l.stream.changed
		l.stream.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pipeline is what runs between a start and a stop.
type pipeline struct {
	*postgres.Reader
	watch atomic.Pointer[postgres.Watch]
	line  *line
	stop  context.CancelFunc
	// ended is cancelled, with the error of the reader as its cause, once the reader has ended.
	ended context.Context
}

// errStopped ends a reader that was stopped without a fault.
var errStopped = errors.New("the reader was stopped")

// newPipeline starts reader and router, and returns once they stream, or with the reason why they
// do not start.
func newPipeline(cfg postgres.Config, set *rules.Set, s *stream, log io.Writer) (*pipeline, error) {
	logger := slog.New(slog.NewTextHandler(log, nil))
	s.board = watermark.NewBoard(watermark.Mark{Stage: watermark.Received}, watermark.Mark{Stage: watermark.Synced}, watermark.Mark{Stage: watermark.Confirmed})
	l := &line{stream: s, ends: make(map[string]cdc.LSN), Router: router.New(router.Config{
		Rules: set, Sinks: []string{sink}, Publisher: s, Ledger: s, Metrics: router.NewMetrics(prometheus.NewRegistry()), Logger: logger, Spool: spool.NewPool(os.TempDir(), 1<<30),
	})}
	ended, end := context.WithCancelCause(context.Background())
	p := &pipeline{line: l, ended: ended}
	p.watch.Store(watchOf(set))
	r := postgres.NewReader(cfg, postgres.Options{
		Board: s.board, Confirm: watermark.ConfirmSynced, Watch: func() postgres.Watch { return *p.watch.Load() }, Memory: s, BridgeGaps: true, StopGrace: time.Second, Logger: logger,
	})
	ctx, stop := context.WithCancel(context.Background())
	p.Reader, p.stop = r, stop
	go func() { end(cmp.Or(r.Run(ctx, l), errStopped)) }()
	for began := time.Now(); time.Since(began) < hang; time.Sleep(time.Millisecond) {
		if ended.Err() != nil {
			stop()
			l.Close()
			return nil, context.Cause(ended)
		}
		if r.State().Phase == postgres.Streaming {
			return p, nil
		}
	}
	_ = p.end()
	return nil, errHangs
}

func watchOf(set *rules.Set) *postgres.Watch {
	w := postgres.Watch{Tables: set.Tables(), Reads: set.Columns, Unfit: func(tables map[cdc.Table]*postgres.TableInfo) []postgres.Problem {
		return status.Unfit(set, tables)
	}}
	if len(set.Patterns()) > 0 {
		w.Matches = set.Matches
	}
	return &w
}

// reload puts rules into service, as the daemon does.
func (p *pipeline) reload(ctx context.Context, set *rules.Set) error {
	w := watchOf(set)
	if err := p.line.Reload(ctx, set, func(ctx context.Context) error { return p.Widen(ctx, *w) }); err != nil {
		return err
	}
	p.watch.Store(w)
	_, err := p.Compare(ctx)
	return err
}

func (p *pipeline) end() error {
	p.stop()
	<-p.ended.Done()
	p.line.Close()
	if err := context.Cause(p.ended); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// covers reports whether a batch purges the key of a rule.
func covers(b *invalidation.Batch, rule, key string) bool {
	if b.Flush {
		return true
	}
	for i := range b.Items {
		if b.Items[i].Rule == rule && len(b.Items[i].Unbuilt) > 0 {
			return true // parked
		}
	}
	for _, inv := range b.Invalidations(nil) {
		switch inv.Kind {
		case invalidation.Key:
			if inv.Value == key {
				return true
			}
		case invalidation.KeyPrefix:
			if strings.HasPrefix(key, inv.Value) {
				return true
			}
		case invalidation.KeyPattern:
			if glob(inv.Value).MatchString(key) {
				return true
			}
		}
	}
	return false
}

// glob is a pattern of Valkey, in which all but * is literal or escaped.
func glob(pattern string) *regexp.Regexp {
	var form, literal strings.Builder
	form.WriteString(`(?s)^`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			form.WriteString(regexp.QuoteMeta(literal.String()) + `.*`)
			literal.Reset()
		case '\\':
			i++
			literal.WriteByte(pattern[i])
		default:
			literal.WriteByte(c)
		}
	}
	return regexp.MustCompile(form.String() + regexp.QuoteMeta(literal.String()) + `$`)
}
