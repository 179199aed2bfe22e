package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// counter is the cheapest Output.
type counter struct {
	noLookups
	values, verdicts int
}

func (c *counter) Invalidate(int, int, Kind, []byte) { c.values++ }
func (c *counter) Verdict(int, Verdict)              { c.verdicts++ }

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

func BenchmarkNoMatchTable(b *testing.B) {
	s := oneRule(b, "keys: [home]")
	rel := &cdc.Relation{Schema: "public", Name: "nobody"}
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
