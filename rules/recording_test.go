package rules

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const recordedRules = `
rules:
  - name: plain
    table: public.t
    keys: ["k:{id}:{merchant}", "old:{old.merchant}"]
    tags: ["t-{category}"]
    unknown: {keys: [all]}
  - name: collapsing
    table: public.t
    sinks: [edge, keysonly]
    keys: ["c:{id}"]
    tags: ["c-{id}"]
    collapse: [{over: 3, keys: ["m:{merchant}"], tags: ["m-{merchant}"]}, {over: 8, tags: [everything], keys: [everything]}]
  - name: asking
    table: public.t
    lookup: {m: {sql: "SELECT a, b FROM m WHERE id = $1 AND x = $2", args: ["{merchant}", "{lower(category)}"]}}
    keys: ["m:{m.a}:{id}", "l:{[id, merchant]}:{m.b}", "z:{m.b}"]
    unknown: {keys: [asked]}
`

// noted keeps all that is handed over, as text.
type noted struct{ said, verdicts []string }

func (n *noted) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	n.said = append(n.said, fmt.Sprintf("%d %d %s %q", rule, sink, k, value))
}

func (n *noted) Fallback(int, int, *Fallback) {}

func (n *noted) Verdict(rule int, v Verdict) { n.verdicts = append(n.verdicts, fmt.Sprint(rule, v)) }

func (n *noted) Lookup(p *Pending) {
	n.said = append(n.said, fmt.Sprintf("%d asks %q of %s: %q", p.Rule, p.Query.Args, p.Query.Lookup.Name, p.Key))
	for i := range p.templates {
		n.said = append(n.said, fmt.Sprintf("for %s: %#v", p.templates[i].source, p.templates[i].texts))
	}
}

// recorded keeps records, and hands verdicts on.
type recorded struct {
	*noted
	records [][]byte
}

func (r *recorded) Record(b []byte) { r.records = append(r.records, append([]byte{}, b...)) }

// TestPropertyPlayed: a record produces what the change would have produced.
func TestPropertyPlayed(t *testing.T) {
	s := mustParse(t, recordedRules)
	rel := relation(cdc.IdentityFull, "*id:int", "merchant:int", "category")
	rapid.Check(t, func(r *rapid.T) {
		value := rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7", "NULL", "UNCHANGED", "Ünïcödé\x00", ""})
		tuple := func(name string) cdc.Tuple {
			return row(value.Draw(r, name), value.Draw(r, name), value.Draw(r, name))
		}
		var changes []*cdc.Change
		for range rapid.IntRange(1, 20).Draw(r, "changes") {
			c := &cdc.Change{Rel: rel, Op: rapid.SampledFrom([]cdc.Op{cdc.Insert, cdc.Update, cdc.Delete, cdc.Truncate}).Draw(r, "op")}
			if c.Op == cdc.Insert || c.Op == cdc.Update {
				c.New = tuple("new")
			}
			if c.Op == cdc.Update || c.Op == cdc.Delete {
				c.Old = tuple("old")
			}
			changes = append(changes, c)
		}
		want, got, tally, played := &noted{}, &noted{}, s.NewTally(), s.NewTally()
		recording, plan := s.NewRecording(), s.Bind(rel)
		out := &recorded{noted: &noted{}}
		for _, c := range changes {
			tally.Eval(plan, c, want)
			recording.Eval(plan, c, out)
		}
		for _, record := range out.records {
			require.NoError(r, recording.Play(record, played, got))
		}
		require.Equal(r, want.said, got.said)
		require.Equal(r, want.verdicts, out.verdicts, "they come at once")
		require.Empty(r, got.verdicts)
		require.Equal(r, handedOn(t, tally, len(s.sinks)), handedOn(t, played, len(s.sinks)))
	})
}

// TestRecordsOfOthers: what is cut short, or not recorded, is refused and does not panic.
func TestRecordsOfOthers(t *testing.T) {
	s := mustParse(t, recordedRules)
	rel := relation(cdc.IdentityFull, "*id:int", "merchant:int", "category")
	recording, out := s.NewRecording(), &recorded{noted: &noted{}}
	recording.Eval(s.Bind(rel), &cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", "2", "x")}, out)
	require.NotEmpty(t, out.records)
	require.Error(t, recording.Play(nil, s.NewTally(), &noted{}))
	require.Error(t, recording.Play([]byte{99}, s.NewTally(), &noted{}))
	stepless := []byte{recordGroup, 1, 1, 1, byte(invalidation.Key), 3, 'a', ':', '1', 0} // the rule has steps
	require.Error(t, recording.Play(stepless, s.NewTally(), &noted{}))
	for _, record := range out.records {
		if record[0] == recordValue {
			continue // the rest of it is the value
		}
		for n := range len(record) {
			require.Error(t, recording.Play(record[:n], s.NewTally(), &noted{}), "%x", record[:n])
		}
	}
}

func FuzzPlay(f *testing.F) {
	s := mustParse(f, recordedRules)
	rel := relation(cdc.IdentityFull, "*id:int", "merchant:int", "category")
	recording, out := s.NewRecording(), &recorded{noted: &noted{}}
	recording.Eval(s.Bind(rel), &cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", "2", "x")}, out)
	for _, record := range out.records {
		f.Add(record)
	}
	f.Fuzz(func(_ *testing.T, record []byte) {
		_ = recording.Play(record, s.NewTally(), &noted{})
	})
}
