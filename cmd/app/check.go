package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Finding is one thing that is wrong, in one line with its fix.
type Finding struct {
	// Input marks files that cannot be used as they are; everything else would
	// lose purges or cannot be reached.
	Input bool   `json:"input"`
	Text  string `json:"text"`
	// Note marks what is worth knowing and loses no purge.
	Note bool `json:"note,omitempty"`
}

// CheckOptions says how far a check goes.
type CheckOptions struct {
	// Offline reads the files only, and takes what there is to know of tables from the lock file.
	Offline bool
	// Probe stores, purges and reads entries of its own at the sinks whose answers alone prove nothing.
	Probe bool
	// Listener is the address of an external NATS server with the user of listeners, empty if their rights are not checked;
	// ListenerCredentials is a file with its credentials, empty for a user without one.
	Listener, ListenerCredentials string
}

// Check finds what can be wrong before it is. Without Probe it creates nothing that it does not remove: a scratch stream
// on an external NATS server.
func Check(ctx context.Context, cfg *config.Config, opts CheckOptions) []Finding {
	c := checker{probe: opts.Probe, warms: cfg.Warms}
	lock, err := Locked(cfg)
	c.add(true, err)
	if opts.Offline {
		set, _, err := loadRules(cfg, lock)
		c.add(true, err)
		if err == nil {
			c.prove(set, lock, nil)
			c.uncovered(set)
			c.tooLong(set, lock)
			c.unfiltered(set, lock)
			c.compared(set, lock, nil)
		}
		return c.findings
	}
	set, plans, err := loadRules(cfg, nil)
	if err != nil {
		c.add(true, err)
		return c.findings
	}
	c.secrets(cfg)
	c.database(ctx, cfg, set, lock)
	c.store(ctx, cfg)
	if opts.Listener != "" {
		c.listener(cfg, opts)
	}
	for i, s := range cfg.Sinks {
		c.sink(ctx, used(s, set.Kinds(i), plans[i]))
	}
	for i := range cfg.Warms {
		c.warm(ctx, cfg, &cfg.Warms[i])
	}
	return c.findings
}

// Findings tells an error of files that cannot be used.
func Findings(err error) []Finding {
	var c checker
	c.add(true, err)
	return c.findings
}

type checker struct {
	findings []Finding
	probe    bool
	warms    []config.Warm
}

// lineBreaks become a space, so that a finding is one line. Other spaces may belong to a name.
var lineBreaks = regexp.MustCompile(`\s*[\r\n]\s*`)

// add takes an error apart into one finding a line. Only errors that were
// joined are taken apart, not those that mention several in a sentence.
func (c *checker) add(input bool, err error) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(many.Unwrap()...).Error() {
		for _, e := range many.Unwrap() {
			c.add(input, e)
		}
		return
	}
	var missing *postgres.Missing
	f := Finding{
		Input: input || errors.As(err, &missing),
		Text:  lineBreaks.ReplaceAllString(strings.TrimSpace(err.Error()), " "),
	}
	if !slices.Contains(c.findings, f) {
		c.findings = append(c.findings, f)
	}
}

// note adds what is worth knowing and loses no purge.
func (c *checker) note(text string) {
	if f := (Finding{Note: true, Text: text}); !slices.Contains(c.findings, f) {
		c.findings = append(c.findings, f)
	}
}

func (c *checker) database(ctx context.Context, cfg *config.Config, set *rules.Set, lock *rules.Catalog) {
	conn, err := cfg.Postgres.Connect(ctx)
	if err != nil {
		c.add(false, fmt.Errorf("database: %w", err))
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c.clearTextDatabase(conn)
	cat, err := readCatalog(ctx, conn, cfg.Postgres, set)
	if err != nil {
		c.add(false, err)
		return
	}
	ready, left := cfg.Postgres.Ready(ctx, conn, cat.tables, watch(set)), cat.left
	if incomplete := (*postgres.Incomplete)(nil); errors.As(ready, &incomplete) {
		// The statements that it proposes publish all that can be.
		_, left, _ = cfg.Postgres.Setup(ctx, conn, watch(set))
	}
	for _, err := range left {
		c.add(false, err)
	}
	for _, p := range cat.empty() {
		c.add(false, fmt.Errorf("no table matches the pattern %s yet; make one, or correct the rule's table", p))
	}
	near, err := cfg.Postgres.NearMisses(ctx, conn, watch(set))
	c.add(false, err)
	for _, n := range near {
		c.note(n.Error())
	}
	others, err := cfg.Postgres.NotTables(ctx, conn, watch(set))
	c.add(false, err)
	for _, fault := range others {
		c.note("a pattern matches " + strings.TrimPrefix(fault.Error(), "table "))
	}
	c.add(false, ready)
	// Inspect's own errors are in those of Ready.
	cat.infos, _ = postgres.Inspect(ctx, conn, cfg.Postgres.Publication, cat.tables)
	some, fatal := cat.missingColumns()
	c.add(true, fatal)
	live := cat.typed()
	_, _, err = loadRules(cfg, live)
	c.add(true, err)
	unusable, other := unfitLookups(ctx, cfg.Postgres, set)
	c.add(true, unusable.Err())
	for _, err := range slices.Concat(some, cat.identities(), cat.ambiguous(), other, cat.shadowed()) {
		c.add(false, err)
	}
	for _, t := range cat.tables {
		if info := cat.infos[t]; info != nil && info.ForeignLeaf != "" {
			c.note(fmt.Sprintf("partition %s of %s is a foreign table: changes of its rows are not in the log, even when they are made through %s; an UPDATE that moves a row to it is in the log as a DELETE, and rules see it as an UPDATE without a new row, too", info.ForeignLeaf, t, t))
		}
	}
	large, err := cfg.Postgres.UnreadColumnsNotes(ctx, conn, cat.infos, set.Columns)
	c.add(false, err)
	for _, note := range large {
		c.note(note)
	}
	c.unpublished(cfg.Postgres, set, live, cat.infos)
	c.prove(set, live, func(t cdc.Table) (*postgres.Identities, error) {
		if !cat.infos[t].Usable {
			return nil, nil // which is a finding by itself
		}
		return postgres.InspectIdentities(ctx, conn, t)
	})
	c.uncovered(set)
	c.tooLong(set, live)
	c.unfiltered(set, live)
	c.compared(set, live, func(t cdc.Table) ([]postgres.Collation, error) { return postgres.Collations(ctx, conn, t) })
	c.drift(cfg, set, lock, live)
	faults, err := cfg.Postgres.FailoverFaults(ctx, conn)
	c.add(false, err)
	for _, err := range faults {
		c.add(false, err)
	}
	inactive, err := cfg.Postgres.InactiveSlots(ctx, conn)
	c.add(false, err)
	for _, s := range inactive {
		c.add(false, s.Fault())
	}
	note, err := cfg.Postgres.SyncNamesNote(ctx, conn)
	c.add(false, err)
	if note != "" {
		c.note(note)
	}
	minor, err := cfg.Postgres.MinorNotes(ctx, conn)
	c.add(false, err)
	for _, note := range minor {
		c.note(note)
	}
	for _, err := range replicaFaults(ctx, cfg) {
		c.add(false, err)
	}
}

// unpublished finds columns that rules purge by and a column list keeps back, except where
// the daemon will add them.
func (c *checker) unpublished(cfg postgres.Config, set *rules.Set, live *rules.Catalog, infos map[cdc.Table]*postgres.TableInfo) {
	for _, t := range live.Tables() {
		info := infos[t]
		if info == nil || cfg.ColumnLists && cfg.Manage && info.Owned {
			continue
		}
		for _, n := range set.NeedsOf(t) {
			if n.When || n.HasUnknown || n.Collapse {
				continue
			}
			if col, found := info.Column(n.Column); found && !col.Carried && !col.Generated {
				c.add(false, fmt.Errorf("%s:%d: rule %q purges by %s of %s, which the column list of publication %s leaves out; "+
					"fix: %s; or give the rule an `unknown`",
					n.File, n.Line, n.Rule, n.Column, t, cfg.Publication, cfg.Republish(info).Script()))
			}
		}
	}
}

// store makes sure that the stream has a place.
func (c *checker) store(ctx context.Context, cfg *config.Config) {
	if !cfg.NATS.Embedded() {
		reported := newNATSErrors(cfg.NATS.URL, slog.New(slog.DiscardHandler))
		defer reported.conditions.Close()
		_, nc, err := connectNATS(cfg, slog.New(slog.DiscardHandler), reported)
		if err != nil {
			c.add(false, err)
			return
		}
		defer nc.Close()
		c.clearTextNATS(nc)
		trial := stream.Config{Pipeline: cfg.Pipeline, Domain: cfg.NATS.Domain, MaxBytes: cfg.Stream.MaxBytes, Replicas: cfg.NATS.Replicas}
		for _, err := range stream.Trial(ctx, nc, trial, reported.denied) {
			c.add(false, err)
		}
		c.add(false, foreign(ctx, cfg, nc))
		excess, err := stream.Excess(nc, cfg.Pipeline, cfg.NATS.Domain)
		c.add(false, err)
		if excess != "" {
			c.note("nats: " + excess)
		}
		return
	}
	others, err := foreignStreams(cfg)
	c.add(false, err)
	if err == nil && len(others) > 0 {
		c.note(fmt.Sprintf("data_dir %s also holds the stream of pipeline %q, which no process reads", cfg.DataDir, others[0]))
	}
	dir := cfg.DataDir
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			c.add(false, fmt.Errorf("data_dir: %s is not a directory", dir))
			return
		case err == nil:
			if unix.Access(dir, unix.W_OK) != nil {
				c.add(false, fmt.Errorf("data_dir: %s cannot be written; give it to the user of the daemon, or choose another data_dir", dir))
			}
			return
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			c.add(false, fmt.Errorf("data_dir: %w", err))
			return
		}
		dir = parent
	}
}

// listener tries what the user of listeners may do on an external server.
func (c *checker) listener(cfg *config.Config, opts CheckOptions) {
	if cfg.NATS.Embedded() {
		c.add(true, errors.New("--listener is for a NATS server of your own (nats.url); listeners of the embedded server can do nothing but listen"))
		return
	}
	own := *cfg
	own.NATS.URL, own.NATS.Credentials, own.NATS.NkeyFile = opts.Listener, opts.ListenerCredentials, ""
	reported := newNATSErrors(own.NATS.URL, slog.New(slog.DiscardHandler))
	defer reported.conditions.Close()
	_, nc, err := connectNATS(&own, slog.New(slog.DiscardHandler), reported)
	if err != nil {
		c.add(false, fmt.Errorf("the listener's user: %w", err))
		return
	}
	defer nc.Close()
	for _, err := range stream.ListenerFaults(nc, cfg.Pipeline, cfg.NATS.Domain, cfg.SinkNames()) {
		c.add(false, err)
	}
}

// used is the sink with the kinds that its rules and its flush need, so that the
// check asks for the permissions of these only.
func used(s config.Sink, kinds invalidation.KindSet, plan []invalidation.Invalidation) config.Sink {
	for _, inv := range plan {
		kinds |= invalidation.Kinds(inv.Kind)
	}
	s.Config = s.Config.Using(kinds)
	return s
}

func (c *checker) sink(ctx context.Context, s config.Sink) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	t, err := newTarget(s, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		c.add(true, err)
		return
	}
	defer t.Close()
	for _, plain := range s.Config.Traits().ClearText {
		c.clearText("sinks."+s.Name+"."+s.Kind()+"."+plain.Key, plain.Host, plain.Fix, false)
	}
	switch err := t.Check(ctx); {
	case err != nil:
		c.add(false, fmt.Errorf("sink %s: %w", s.Name, err))
	case t.Unproven == "":
	case t.Probe == nil:
		c.note(fmt.Sprintf("sink %s: not proven: %s", s.Name, t.Unproven))
	case !c.probe:
		c.note(fmt.Sprintf("sink %s: not proven: %s; walpurge check --probe tries it with entries of its own", s.Name, t.Unproven))
	default:
		if err := t.Probe(ctx); err != nil {
			c.probed(s.Name, err)
			return
		}
		c.note(fmt.Sprintf("sink %s: proven with entries of its own: %s", s.Name, t.Unproven))
	}
}

// probed adds what a probe found, one finding for each place of the cache.
func (c *checker) probed(sink string, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			c.probed(sink, e)
		}
		return
	}
	c.add(false, fmt.Errorf("sink %s: %w", sink, err))
}

// ExitCode is 2 if some input cannot be used, 1 if something else was found but notes.
func ExitCode(findings []Finding) int {
	code := 0
	for _, f := range findings {
		switch {
		case f.Input:
			return 2
		case !f.Note:
			code = 1
		}
	}
	return code
}
