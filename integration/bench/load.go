package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// load is an even load: every transaction changes one row, and every row once.
type load struct {
	// from and to are the first and the last row.
	from, to int
	// rate is in transactions a second, of all writers together.
	rate, writers int
}

// commit is one transaction of a load.
type commit struct {
	key string
	// at is when its COMMIT returned, took how long the statement and the COMMIT took.
	at   time.Time
	took time.Duration
}

// run commits until all rows are changed or stop is closed, and returns what it
// committed. Where the server is too slow for the rate, it takes longer.
func (l load) run(ctx context.Context, url string, stop <-chan struct{}) ([]commit, error) {
	var (
		mu     sync.Mutex
		all    []commit
		failed error
		wg     sync.WaitGroup
	)
	for w := range l.writers {
		wg.Go(func() {
			made, err := l.write(ctx, url, w, stop)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, made...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	slices.SortFunc(all, func(a, b commit) int { return a.at.Compare(b.at) })
	return all, nil
}

func (l load) write(ctx context.Context, url string, writer int, stop <-chan struct{}) ([]commit, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET synchronous_commit = on"); err != nil {
		return nil, err
	}
	var out []commit
	tick := time.NewTicker(time.Duration(l.writers) * time.Second / time.Duration(l.rate))
	defer tick.Stop()
	for id := l.from + writer; id <= l.to; id += l.writers {
		select {
		case <-tick.C:
		case <-stop:
			return out, nil
		}
		began := time.Now()
		if _, err := conn.Exec(ctx, "UPDATE products SET ver = ver + 1 WHERE id = $1", id); err != nil {
			return out, err
		}
		now := time.Now()
		out = append(out, commit{key: key(id), at: now, took: now.Sub(began)})
	}
	return out, nil
}

func key(id int) string { return fmt.Sprint("product:", id) }

// share is the value below which a share of all lies.
func share(all []time.Duration, of float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	return s[int(of*float64(len(s)-1))]
}

// sightings notes when keys were seen to go.
type sightings struct {
	mu   sync.Mutex
	at   map[string]time.Time
	more chan struct{}
}

func newSightings() *sightings {
	return &sightings{at: make(map[string]time.Time), more: make(chan struct{}, 1)}
}

func (s *sightings) see(key string) {
	now := time.Now()
	s.mu.Lock()
	s.at[key] = now
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// since waits until the keys of all commits are gone and returns how long each
// took. A key that was gone before its COMMIT returned took no time.
func (s *sightings) since(ctx context.Context, commits []commit) ([]time.Duration, error) {
	for {
		s.mu.Lock()
		n := len(s.at)
		s.mu.Unlock()
		if n >= len(commits) {
			break
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d keys are gone: %w", n, len(commits), ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]time.Duration, len(commits))
	for i, c := range commits {
		gone, seen := s.at[c.key]
		if !seen {
			return nil, fmt.Errorf("%s was not seen to go", c.key)
		}
		out[i] = max(0, gone.Sub(c.at))
	}
	return out, nil
}
