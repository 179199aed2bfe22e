package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// counter is the cheapest Output.
type counter struct {
	noLookups
	values, verdicts int
}

func (c *counter) Invalidate(int, int, invalidation.Kind, []byte) { c.values++ }
func (c *counter) Fallback(int, int, *Fallback)                   {}

func (c *counter) Verdict(int, Verdict) { c.verdicts++ }

func benchChange() cdc.Change {
	rel := relation(cdc.IdentityFull, "*id:int", "*slug", "*price:num", "*status", "*at:tstz")
	return cdc.Change{Op: cdc.Update, Rel: rel,
		Old: row("1234567", "old-slug-of-a-product", "10.50", "live", "2026-11-20 12:00:00+00"),
		New: row("1234567", "new-slug-of-a-product", "9.50", "live", "2026-11-20 12:00:01+00")}
}

func benchmarkRule(b *testing.B, body string) {
	c := benchChange()
	p := allRule(b, body).Bind(c.Rel)
	out := &counter{}
	b.ReportAllocs()
	for b.Loop() {
		p.Eval(&c, out)
	}
	require.NotZero(b, out.verdicts)
}

func BenchmarkPlainRule(b *testing.B) {
	benchmarkRule(b, `keys: ["product:{id}", "product:slug:{slug}"]`)
}

func BenchmarkTimestampRule(b *testing.B) { benchmarkRule(b, `keys: ["at:{at}"]`) }

func BenchmarkExpressionRule(b *testing.B) { benchmarkRule(b, `keys: ["product:{lower(slug)}"]`) }

func BenchmarkURLRule(b *testing.B) { benchmarkRule(b, `urls: ["https://h/p/{slug}"]`) }

func BenchmarkWhenRule(b *testing.B) {
	benchmarkRule(b, "keys: [\"product:{id}\"]\nwhen: row.status != \"draft\"")
}

func BenchmarkWhenChanged(b *testing.B) {
	benchmarkRule(b, "keys: [\"product:{id}\"]\nwhen: changed(price, slug) && row.status != \"draft\"")
}

func BenchmarkWhenSearch(b *testing.B) {
	benchmarkRule(b, "keys: [\"product:{id}\"]\nwhen: row.slug.contains(\"slug\") && row.slug.matches(\"^[a-z-]+$\") && row.slug.indexOf(\"of\") > 0")
}

func BenchmarkWhenLoop(b *testing.B) {
	benchmarkRule(b, "keys: [\"product:{id}\"]\nwhen: row.slug.split(\"-\").exists(s, s == \"product\")")
}

func BenchmarkNoMatchTable(b *testing.B) {
	s := oneRule(b, "keys: [home]")
	rel := &cdc.Relation{Schema: "public", Name: "unnamed"}
	b.ReportAllocs()
	for b.Loop() {
		if s.Bind(rel) != nil {
			b.Fatal("bound")
		}
	}
}

func TestPlainRuleDoesNotAllocate(t *testing.T) {
	c := benchChange()
	p := allRule(t, `keys: ["product:{id}", "product:slug:{slug}", "at:{at}"]`+"\nurls: [\"https://h/{slug}\"]").Bind(c.Rel)
	out := &counter{}
	p.Eval(&c, out) // grows the buffers
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Eval(&c, out) }))
}

// A rule without collapse costs in a tally what it costs without one.
func TestPlainRuleDoesNotAllocateInATally(t *testing.T) {
	c := benchChange()
	s := allRule(t, `keys: ["product:{id}", "product:slug:{slug}", "at:{at}"]`)
	p, tally, out := s.Bind(c.Rel), s.NewTally(), &counter{}
	tally.Eval(p, &c, out)
	require.Zero(t, testing.AllocsPerRun(100, func() { tally.Eval(p, &c, out) }))
}

func benchmarkTally(b *testing.B, collapse string) {
	c := benchChange()
	s := allRule(b, "keys: [\"product:{id}\", \"product:slug:{slug}\"]\n"+collapse)
	p, tally, out := s.Bind(c.Rel), s.NewTally(), &counter{}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for d, at := n, 6; at >= 0; at-- {
			c.New[0].Data[at] = byte('0' + d%10)
			d /= 10
		}
		n++
		tally.Eval(p, &c, out)
		if n%1000 == 0 {
			tally.End(nil)
		}
	}
}

func BenchmarkTallyPlainRule(b *testing.B) { benchmarkTally(b, "") }

// Within the bound, 1,000 rows in a transaction.
func BenchmarkTallyHeld(b *testing.B) {
	benchmarkTally(b, `collapse: [{over: 100000, generations: ["s:{status}"]}, {over: 200000, generations: [products]}]`)
}

// Past the first step after 100 of 1,000 rows.
func BenchmarkTallyCollapsed(b *testing.B) {
	benchmarkTally(b, `collapse: [{over: 100, generations: ["s:{status}"]}, {over: 200000, generations: [products]}]`)
}

// Past the last step, which is literal.
func BenchmarkTallySealed(b *testing.B) {
	benchmarkTally(b, `collapse: {over: 100, generations: [products]}`)
}
