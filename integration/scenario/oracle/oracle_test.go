package oracle

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func commit(row string, version int64, ms int) Commit { return Commit{Version{row, version}, at(ms)} }

func TestParseVersions(t *testing.T) {
	got, err := ParseVersions(" item:7=12  list:a=b=3 ")
	require.NoError(t, err)
	require.Equal(t, []Version{{"item:7", 12}, {"list:a=b", 3}}, got)
	got, err = ParseVersions("")
	require.NoError(t, err)
	require.Empty(t, got)
	for _, bad := range []string{"item", "=4", "item:7=", "item:7=x", "item:7=1 x"} {
		_, err := ParseVersions(bad)
		require.ErrorContains(t, err, "row=version", bad)
	}
}

func TestJudge(t *testing.T) {
	commits := []Commit{commit("a", 10, 0), commit("a", 12, 1000), commit("a", 15, 1050), commit("b", 11, 500)}
	tests := []struct {
		name  string
		sent  int
		shown []Version
		age   time.Duration
	}{
		{"the newest version", 2000, []Version{{"a", 15}}, 0},
		{"replaced before the request", 1060, []Version{{"a", 12}}, 10 * time.Millisecond},
		{"age counts from the first version after the one shown", 1200, []Version{{"a", 10}}, 200 * time.Millisecond},
		{"replaced while the request was under way", 999, []Version{{"a", 10}}, 0},
		{"replaced at the moment of the request", 1000, []Version{{"a", 10}}, 0},
		{"a version newer than all known", 9000, []Version{{"a", 99}}, 0},
		{"a row that was never written", 9000, []Version{{"c", 1}}, 0},
		{"no rows", 9000, nil, 0},
		{"a version between two known ones", 2000, []Version{{"a", 13}}, 950 * time.Millisecond},
		{"the oldest of several rows counts", 2500, []Version{{"a", 12}, {"b", 9}}, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var o Oracle
			// In an order that is not that of the versions.
			o.Responded(Response{Sent: at(tt.sent), Group: "x", Shown: tt.shown})
			for i := range commits {
				o.Committed(commits[len(commits)-1-i])
			}
			all, groups := o.Judge()
			require.Equal(t, tt.age, all.Oldest)
			require.Equal(t, 1, all.Responses)
			require.Equal(t, tt.age > 0, all.Stale == 1)
			require.Equal(t, tt.age > 100*time.Millisecond, all.Over100ms == 1)
			require.Equal(t, tt.age > time.Second, all.Over1s == 1)
			require.Equal(t, all, groups["x"])
			require.Equal(t, tt.age > 0, all.Example != "")
		})
	}
}

// Two transactions may return from COMMIT in another order than that of their versions, where they
// wrote different columns of a list. The later version that was seen first makes the earlier one stale.
func TestCommitsReturnOutOfOrder(t *testing.T) {
	var o Oracle
	o.Committed(commit("a", 12, 300), commit("a", 13, 100))
	o.Responded(Response{Sent: at(400), Shown: []Version{{"a", 11}}})
	all, _ := o.Judge()
	require.Equal(t, 300*time.Millisecond, all.Oldest)
}

func TestJudgeKeepsCommitsOnly(t *testing.T) {
	var o Oracle
	o.Committed(commit("a", 2, 0))
	o.Responded(Response{Sent: at(50), Shown: []Version{{"a", 1}}})
	all, _ := o.Judge()
	require.Equal(t, 1, all.Stale)
	o.Responded(Response{Sent: at(2000), Shown: []Version{{"a", 1}}})
	o.Responded(Response{Sent: at(2000), Shown: []Version{{"a", 2}}})
	all, _ = o.Judge()
	require.Equal(t, Staleness{Responses: 2, Stale: 1, Over100ms: 1, Over1s: 1, Oldest: 2 * time.Second, P50: 2 * time.Second, Example: all.Example}, all)
	require.InDelta(t, 0.5, all.Share(), 1e-9)
	require.InDelta(t, 0.5, all.ShareOver1s(), 1e-9)
	require.Zero(t, Staleness{}.Share())
}

// world is a database with a cache in simulated time: each read fills the cache, and each write
// purges it a little later, unless no rule does for its row.
type world struct {
	oracle  Oracle
	random  *rand.Rand
	version int64
	rows    []int64
	cached  []int64
	purges  map[int][]int // by time: the rows to purge
}

// run lets rate reads a second and a tenth as many writes happen for ten seconds.
func (w *world) run(rate int, unruled func(row int) bool) Staleness {
	w.rows, w.cached, w.purges = make([]int64, 50), make([]int64, 50), map[int][]int{}
	w.random = rand.New(rand.NewPCG(7, 7))
	names := make([]string, len(w.rows))
	for i := range names {
		names[i] = "row:" + string(rune('A'+i))
	}
	for ms := range 10_000 {
		for _, row := range w.purges[ms] {
			w.cached[row] = 0
		}
		for range rate / 1000 {
			row := w.random.IntN(len(w.rows))
			if w.random.IntN(10) == 0 {
				w.version++
				w.rows[row] = w.version
				w.oracle.Committed(commit(names[row], w.version, ms))
				if !unruled(row) {
					when := ms + 1 + w.random.IntN(5)
					w.purges[when] = append(w.purges[when], row)
				}
				continue
			}
			if w.cached[row] == 0 {
				w.cached[row] = w.rows[row]
			}
			w.oracle.Responded(Response{Sent: at(ms), Shown: []Version{{names[row], w.cached[row]}}})
		}
	}
	all, _ := w.oracle.Judge()
	return all
}

// The oracle's own test: a run with one rule removed is found out, and a correct one at ten times
// the load is not accused.
func TestOracleFindsAMissingRule(t *testing.T) {
	var correct, ten, removed world
	none := func(int) bool { return false }
	require.Zero(t, correct.run(1000, none).Over100ms)
	all := ten.run(10_000, none)
	require.Zero(t, all.Over100ms, all.Example)
	require.Greater(t, all.Responses, 80_000)
	found := removed.run(1000, func(row int) bool { return row == 3 })
	require.Positive(t, found.Over1s)
	require.Contains(t, found.Example, "row:D")
}
