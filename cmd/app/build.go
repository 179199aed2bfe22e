package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/router/stream/embedded"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery"
	"github.com/walpurge/walpurge/sinks/history"
)

// target is an opened sink with its configuration.
type target struct {
	spec config.Sink
	sinks.Opened
	limits sinks.Limits
	// budgets are what calls are taken from; without any they are not limited.
	budgets []sinks.Budget
	// identity says which cache it is.
	identity history.Target
	// where names the cache for an operator: servers, zone, service.
	where string
}

// newTarget opens a sink. observer may be nil.
func newTarget(spec config.Sink, observer sinks.Observer, log *slog.Logger) (target, error) {
	t := target{spec: spec}
	opened, err := spec.Config.Open(sinks.Options{Log: log, Flush: spec.Flush, Observer: observer})
	if err != nil {
		return t, fmt.Errorf("sink %s: %w", spec.Name, err)
	}
	t.Opened, t.limits, t.budgets = *opened, spec.Config.Limits(), spec.Config.Budgets()
	t.where, t.identity = spec.Config.Where(), spec.Config.Target()
	if spec.Shadow {
		s := shadow{log, condition.NewLog(log)}
		closeSink := t.Close
		t.Sink, t.Close = s, func() { s.conditions.Close(); closeSink() }
	}
	return t, nil
}

// shadow stands in for a sink that is only to be watched.
type shadow struct {
	log        *slog.Logger
	conditions *condition.Log
}

var notPurged = condition.Text{Level: slog.LevelInfo, On: "shadow: not purged"}

// Purge logs what would be purged: the numbers now and then, and the values on debug.
func (s shadow) Purge(_ context.Context, batch []invalidation.Invalidation) error {
	s.conditions.At(notPurged).Observe("calls", condition.Sum(1), "count", condition.Sum(len(batch)))
	for _, inv := range batch {
		s.log.Debug("shadow: not purged", "kind", inv.Kind.String(), "value", inv.Value, "rule", inv.Rule)
	}
	return nil
}

// flushPlan is what empties a sink: what the file says, else patterns derived
// from its rules. A sink that cannot be flushed could never be trusted again
// after a gap, so it is refused.
func flushPlan(cfg *config.Config, set *rules.Set, i int) ([]invalidation.Invalidation, error) {
	s := cfg.Sinks[i]
	if len(s.Flush) > 0 {
		return s.Flush, nil
	}
	refuse := func(format string, args ...any) error {
		return strictyaml.Errors{{File: cfg.File, Line: s.Pos.Line, Column: s.Pos.Column,
			Msg: fmt.Sprintf("sink %s cannot be flushed after a gap: ", s.Name) + fmt.Sprintf(format, args...)}}
	}
	if !s.Takes.Has(invalidation.KeyPattern) {
		return nil, refuse("add flush: {everything: true}, or flush: {tags: [...]} with a tag that every object carries")
	}
	if set.Kinds(i).Has(invalidation.Tag) {
		return nil, refuse("only the cache knows which keys have a tag; add flush: {key_patterns: [...]} that match them all")
	}
	patterns, err := set.FlushPatterns(i)
	if err != nil {
		return nil, refuse("%v; add flush: {key_patterns: [...]}", err)
	}
	plan := make([]invalidation.Invalidation, len(patterns))
	for n, p := range patterns {
		plan[n] = invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: p, Rule: "flush"}
	}
	return plan, nil
}

// loadRules reads the rules, checks them against the catalog if there is one, and
// makes sure that every sink can be flushed.
func loadRules(cfg *config.Config, catalog *rules.Catalog) (*rules.Set, [][]invalidation.Invalidation, error) {
	set, err := rules.Load(cfg.Rules, rules.Options{Sinks: cfg.Specs(), Catalog: catalog})
	if err != nil {
		return nil, nil, err
	}
	plans := make([][]invalidation.Invalidation, len(cfg.Sinks))
	var errs []error
	for i := range cfg.Sinks {
		var err error
		if plans[i], err = flushPlan(cfg, set, i); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, foreignHosts(cfg.Sinks[i], set.Hosts(i))...)
	}
	return set, plans, errors.Join(errs...)
}

// foreignHosts finds URLs of hosts that the sink does not purge, so that it could only park them.
func foreignHosts(s config.Sink, uses []rules.HostUse) []error {
	purges := s.Config.Traits().Host
	if purges == nil {
		return nil
	}
	var errs []error
	for _, u := range uses {
		if err := purges(u.Host); err != nil {
			errs = append(errs, strictyaml.Errors{{File: u.File, Line: u.Line, Column: 1, Text: u.Host,
				Msg: fmt.Sprintf("rule %q: sink %s %v, or send the rule to other sinks", u.Rule, s.Name, err)}})
		}
	}
	return errs
}

// connectNATS opens the server that holds the stream. The server is nil when it
// is somebody else's.
func connectNATS(cfg *config.Config, log *slog.Logger, reported *natsErrors) (*embedded.Server, *nats.Conn, error) {
	if cfg.NATS.Embedded() {
		others, err := foreignStreams(cfg)
		if err != nil {
			return nil, nil, err
		}
		if len(others) > 0 {
			log.Warn("data_dir also holds the stream of another pipeline, which no process reads; once it is not needed, stop the daemon and delete its directories",
				"pipeline", others[0], "directories", filepath.Join(cfg.DataDir, "jetstream", "*", "streams", "walpurge_"+others[0]+"*"))
		}
		server, err := embedded.Start(embedded.Config{
			Dir: cfg.DataDir, Listen: cfg.NATS.Listen, TokenFile: cfg.NATS.TokenFile, Announced: stream.PurgedSubject(cfg.Pipeline, ">"),
			MaxStore: stream.StoreBytes(cfg.Stream.MaxBytes),
		}, log)
		if err != nil {
			return nil, nil, err
		}
		nc, err := server.Connect()
		if err != nil {
			server.Close()
			return nil, nil, err
		}
		return server, nc, nil
	}
	files := &natsFiles{cfg: cfg.NATS, report: reported.unusable}
	fromFiles, err := files.options()
	if err != nil {
		return nil, nil, err
	}
	// A server may refuse the user at several reconnects in a row and take it later: its own file and ours are replaced one after the other.
	opts := append(reported.options(), nats.Name("walpurge "+cfg.Pipeline), nats.MaxReconnects(-1), nats.Timeout(10*time.Second), nats.IgnoreAuthErrorAbort())
	opts = append(opts, fromFiles...)
	if cfg.NATS.HandshakeFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	nc, err := nats.Connect(cfg.NATS.URL, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("nats.url: %w; %s", display.Redact(err, cfg.NATS.URL), natsAdvice(cfg.NATS, err))
	}
	files.connected(nc)
	return nil, nc, nil
}

// natsAdvice says what to do about a connection that was not made.
func natsAdvice(cfg config.NATS, err error) string {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), strings.Contains(strings.ToLower(text), "authorization violation"):
		return "the server refused the user: check nats.credentials, nats.nkey_file, or the user and password in nats.url"
	case errors.As(err, &cert):
		return "set nats.tls.ca_file to the certificate of the server's authority"
	case cfg.HandshakeFirst && (errors.As(err, &record) || strings.Contains(text, "does not look like a TLS handshake")):
		return "the server does not begin with TLS: take out nats.tls.handshake_first"
	case !cfg.HandshakeFirst && (errors.Is(err, io.EOF) || os.IsTimeout(err) || strings.Contains(text, "EOF") || strings.Contains(text, "i/o timeout")):
		return "the server says nothing: if its TLS block has handshake_first, set nats.tls.handshake_first: true"
	case errors.Is(err, nats.ErrSecureConnRequired), strings.Contains(text, "secure connection required"):
		return "the server wants TLS: write tls:// in nats.url"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server has no TLS: write nats:// in nats.url, and take out nats.tls"
	}
	return "start the server, or leave `nats` out to use the embedded one"
}

// gates are what a sink's purges wait for: visibility, read replicas, then the inner sinks.
func (a *App) gates(s config.Sink, consumers map[string]*stream.Consumer, lanes map[string]*delivery.Lane) []delivery.Gate {
	var gates []delivery.Gate
	if a.cfg.Visible {
		gates = append(gates, delivery.Gate{Name: "visible", Wait: func(ctx context.Context, m invalidation.Message) error {
			return a.gate.Wait(ctx, m.Batch.Stamp)
		}})
	}
	for _, r := range replicasOf(a.cfg) {
		// A gate for each, so that one which is down does not shorten the patience with the others. The wait
		// without a limit is one for all of them, so that all that are down are found to be away together.
		gates = append(gates, delivery.Gate{
			Name: "replicas", Member: r.Name,
			Wait: func(ctx context.Context, m invalidation.Message) error {
				return a.replicas.Wait(ctx, m.Batch.Stamp.Position)
			},
			Brief: func(ctx context.Context, m invalidation.Message) error {
				return a.replicas.WaitFor(ctx, r.Name, m.Batch.Stamp.Position)
			},
		})
	}
	for _, inner := range s.After {
		past := func(until delivery.Until) func(ctx context.Context, m invalidation.Message) error {
			return func(ctx context.Context, m invalidation.Message) error {
				return lanes[inner].Past(ctx, m, until, consumers[inner].Past)
			}
		}
		gates = append(gates, delivery.Gate{
			Name: inner, Wait: past(delivery.Purged), Brief: past(delivery.PurgedOrDeferred), Early: past(delivery.PurgedOnce), Ordered: true,
		})
	}
	return gates
}

// lane is a sink at work.
type lane struct {
	target
	*delivery.Lane
	consumer *stream.Consumer
	// manual is where its manual purges are stored.
	manual *stream.ManualConsumer
	// paused is the pause in force, nil without one.
	paused atomic.Pointer[stream.Pause]
	cache  *cache
}

// parks is what stores what a sink does not take. In shadow mode nothing is purged, so what could not
// be built is not due either.
func (a *App) parks(s config.Sink, log *slog.Logger) func(ctx context.Context, b *invalidation.Batch, cause error) error {
	if !s.Shadow {
		return a.stream.Park
	}
	return func(ctx context.Context, b *invalidation.Batch, cause error) error {
		if !b.Unbuilt() {
			return a.stream.Park(ctx, b, cause)
		}
		log.Debug("shadow: not parked", "err", cause)
		return nil
	}
}

// newLanes opens a lane for every sink, at the place where it left off.
func (a *App) newLanes(ctx context.Context) error {
	metrics := delivery.NewMetrics(a.working)
	if err := a.settleFormer(ctx); err != nil {
		return err
	}
	consumers := make(map[string]*stream.Consumer, len(a.targets))
	for _, t := range a.targets {
		c, err := a.stream.Consumer(ctx, t.spec.Name, t.spec.Formerly, a.log.With("sink", t.spec.Name))
		if err != nil {
			return err
		}
		consumers[t.spec.Name] = c
	}
	newest, err := a.stream.Last(ctx)
	if err != nil {
		return err
	}
	a.caches = newCaches(a)
	buckets := delivery.NewBuckets()
	lanes := make(map[string]*delivery.Lane, len(a.targets))
	for i, t := range a.targets {
		log, consumer := a.log.With("sink", t.spec.Name), consumers[t.spec.Name]
		overflow, err := a.overflow(ctx, t.spec, consumer)
		if err != nil {
			return err
		}
		_, recorded, err := a.caches.recorded(ctx, t.spec.Name)
		if err != nil {
			return err
		}
		pace := buckets.Pace(t.budgets...)
		manual, err := a.stream.ManualConsumer(ctx, t.spec.Name, log)
		if err != nil {
			return err
		}
		var inherited delivery.Inherited
		if a.set.Load().Defers(i) {
			inherited = delivery.Inherited{Acked: consumer.Floor(), Newest: newest}
		}
		lanes[t.spec.Name] = delivery.New(delivery.Config{
			Name: t.spec.Name, Sink: a.watched(t), Limits: t.limits, Pace: pace, Source: consumer, Hand: manual,
			Gates: a.gates(t.spec, consumers, lanes), MaxWait: t.spec.MaxWait, SecondPurge: t.spec.SecondPurge,
			FlushPace: t.spec.FlushPace, FlushAtMost: t.spec.FlushAtMost,
			MaxPutOff: maxPutOff(a.stream.MaxBytes(), t.spec.MaxBacklog), Overflow: overflow, Inherited: inherited,
			Flush:      func() []invalidation.Invalidation { return (*a.plans.Load())[i] },
			Distrusted: recorded && !t.spec.Shadow,
			Park:       a.parks(t.spec, log), Board: a.board, Metrics: metrics, Logger: log, Tracer: a.opts.Tracer,
			Collapsed: func(rule string, values int) { a.routing.Collapsed(rule, t.spec.Name, values) },
			Flushing:  func(reason string) { a.incidents.add("flush", t.spec.Name, reason) },
		})
		l := &lane{target: t, consumer: consumer, manual: manual, Lane: lanes[t.spec.Name]}
		a.lanes = append(a.lanes, l)
		a.caches.add(l, log)
	}
	return a.applyPauses(ctx)
}
