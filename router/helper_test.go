package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const productRules = `
rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    tags: ["product-{id}"]
`

// parse reads rules for a cache that takes keys, and further kinds where they are given, and an edge.
func parse(t require.TestingT, yaml string, further ...invalidation.Kind) *rules.Set {
	set, err := rules.Parse("rules.yaml", []byte(yaml), rules.Options{Sinks: []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(append(further, invalidation.Key)...)},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.Everything)},
	}})
	require.NoError(t, err)
	return set
}

// fake is Publisher and Ledger; it writes down what it is told.
type fake struct {
	calls   []string
	batches []*invalidation.Batch
	claims  []cdc.Claim
	begun   cdc.Claim
	last    cdc.Claim
	seq     uint64
	found   bool
	fail    map[string]error
	// onFlushed runs when the router waits for the publisher.
	onFlushed func()
}

func (f *fake) call(name, text string) error {
	f.calls = append(f.calls, name+text)
	return f.fail[name]
}

func (f *fake) Publish(_ context.Context, b *invalidation.Batch) error {
	f.batches = append(f.batches, b)
	return f.call("publish", " "+b.Sink)
}

func (f *fake) Claim(_ context.Context, at cdc.Position, committed time.Time) error {
	f.claims = append(f.claims, cdc.Claim{Position: at, CommitTime: committed})
	return f.call("claim", " "+at.LSN.String())
}

func (f *fake) Begin(_ context.Context, first cdc.Claim, after uint64) error {
	f.begun = first
	return f.call("begin", fmt.Sprintf(" %d %s after %d", first.Epoch, first.Position, after))
}

func (f *fake) Flushed(context.Context) error {
	if f.onFlushed != nil {
		f.onFlushed()
	}
	return f.call("flushed", "")
}

func (f *fake) LastClaim(context.Context) (cdc.Claim, uint64, bool, error) {
	return f.last, f.seq, f.found, f.fail["last"]
}

// reset forgets what was called.
func (f *fake) reset() { f.calls, f.batches, f.claims = nil, nil, nil }

var errFake = errors.New("fake failure")

func newRouter(t require.TestingT, f *fake, yaml string, further ...invalidation.Kind) (*Router, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return New(Config{
		Rules: parse(t, yaml, further...), Sinks: []string{"cache", "edge"}, Publisher: f, Ledger: f,
		Metrics: NewMetrics(reg), Logger: slog.New(slog.DiscardHandler), Spool: spool.NewPool(os.TempDir(), 1<<30),
	}), reg
}

// started returns a router whose session began at LSN 100 without a gap.
func started(t testing.TB, yaml string) (*Router, *fake) {
	t.Helper()
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
	r, _ := newRouter(t, f, yaml)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	return r, f
}

func at(lsn cdc.LSN) cdc.Position { return cdc.Position{SystemID: "s", Timeline: 1, LSN: lsn} }

var products = &cdc.Relation{
	OID: 1, Schema: "public", Name: "products", Identity: cdc.IdentityDefault,
	Columns: []cdc.Column{{Name: "id", TypeOID: 20, Key: true}},
}

func insert(id int) *cdc.Change {
	return &cdc.Change{Op: cdc.Insert, Rel: products, New: cdc.Tuple{{Kind: cdc.Text, Data: fmt.Append(nil, id)}}}
}

var epoch = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// begin is a transaction as its changes see it: End is not known yet.
func begin(xid uint64, commit cdc.LSN) *cdc.Txn {
	return &cdc.Txn{XID: xid, Commit: commit, Time: epoch.Add(time.Duration(xid) * time.Second)}
}

// end closes it.
func end(tx *cdc.Txn) *cdc.Txn {
	tx.End = tx.Commit + 8
	return tx
}

// metric returns the value of the one counter with these label values (in the
// order of their names), and the number of counters of that name.
func metric(t testing.TB, reg *prometheus.Registry, name string, labels ...string) (float64, int) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue(), len(f.GetMetric())
			}
		}
		return -1, len(f.GetMetric())
	}
	return -1, 0
}

// named are rules with nothing but names.
func named(names ...string) []*rules.Rule {
	out := make([]*rules.Rule, len(names))
	for i, name := range names {
		out[i] = &rules.Rule{Name: name}
	}
	return out
}

// published is for tables that are published already.
func published(context.Context) error { return nil }
