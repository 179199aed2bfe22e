package schemas

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// without are the kinds of steps and shapes that are not tried.
var without []string

// workers try schemas at the same time, each in databases of its own.
const workers = 6

// enough failures end the test.
const enough = 3

// number reads an environment variable.
func number(t *testing.T, name string) (n int, set bool) {
	text, set := os.LookupEnv(name)
	if !set {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n, true
}

// TestRandomSchemas tries as many seeds as there is time for. WALPURGE_SEED names one, and
// WALPURGE_SEEDS says how many, from WALPURGE_FIRST_SEED on.
func TestRandomSchemas(t *testing.T) {
	t.Parallel()
	most, budget := cases, budget
	if n, set := number(t, "WALPURGE_SEEDS"); set {
		most, budget = n, 24*time.Hour
	}
	first, _ := number(t, "WALPURGE_FIRST_SEED")
	seeds := make(chan uint64)
	began := time.Now()
	var failed atomic.Int64
	go func() {
		defer close(seeds)
		if seed, set := number(t, "WALPURGE_SEED"); set {
			seeds <- uint64(seed)
			return
		}
		for seed := range uint64(most) {
			if time.Since(began) > budget || failed.Load() >= enough {
				return
			}
			seeds <- uint64(first) + seed
		}
	}()
	pg := newServer(t)
	var tried, refused, changed, stale, broken, excused atomic.Int64
	var all sync.WaitGroup
	for i := range workers {
		w := newWorld(t, pg, fmt.Sprintf("app_%d", i))
		all.Go(func() {
			for seed := range seeds {
				s := generate(seed, w.major, without)
				v := w.run(s)
				tried.Add(1)
				changed.Add(int64(v.changed))
				stale.Add(int64(v.stale))
				broken.Add(int64(v.failed))
				excused.Add(int64(v.excused))
				if v.refused != nil {
					refused.Add(1)
				}
				if v.failure != "" {
					failed.Add(1)
					s, v = w.shrink(s, v)
					t.Errorf("seed %d: %s\nrepeat: WALPURGE_SEED=%d go test -race -tags failpoints -run TestRandomSchemas ./integration/schemas\n%s\n%s", seed, v.failure, seed, s, v.log)
				}
			}
		})
	}
	all.Wait()
	t.Logf("tried %d schemas in %s: %d refused at the start, %d answers changed, of which %d were not purged for a problem of their table, problems after %d steps, %d statements failed with and without walpurge",
		tried.Load(), time.Since(began).Round(time.Second), refused.Load(), changed.Load(), excused.Load(), stale.Load(), broken.Load())
	require.Positive(t, changed.Load())
}

// shrink leaves out statements as long as the script still fails.
func (w *world) shrink(s *script, v verdict) (*script, verdict) {
	for i := len(s.steps) - 1; i >= 0; i-- {
		for n := max(0, len(s.steps[i].sql)-1); n >= 0; n-- {
			less := s.less(i, n)
			if now := w.run(less); now.failure != "" {
				s, v = less, now
			}
			if i >= len(s.steps) {
				break
			}
		}
	}
	return s, v
}
