package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"
)

const (
	// rate is how many transactions a second the latency is measured at.
	rate    = 500
	seconds = 10
)

// Latency is how long after its COMMIT returned a row's key was gone, as the
// cache itself tells. A key that was gone before that counts as 0.
type Latency struct {
	Rate int           `json:"rate"`
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P99  time.Duration `json:"p99_ns"`
	// CPU is what the daemon used, as a share of a core.
	CPU float64 `json:"cpu_cores"`
	// Idle is the same for as long without a change.
	Idle float64 `json:"idle_cores"`
}

// runLatency commits one row after the other at an even pace.
func (b *bench) runLatency(ctx context.Context) (l Latency, err error) {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{b.valkey.Addr()}, DisableCache: true})
	if err != nil {
		return l, err
	}
	defer client.Close()
	const n = rate * seconds
	for id := 1; id <= n; id++ {
		if err := client.Do(ctx, client.B().Set().Key(key(id)).Value("1").Build()).Error(); err != nil {
			return l, err
		}
	}
	if err := client.Do(ctx, client.B().ConfigSet().ParameterValue().ParameterValue("notify-keyspace-events", "Eg").Build()).Error(); err != nil {
		return l, err
	}
	if _, err := b.db.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot); err != nil {
		return l, err
	}
	dir, err := os.MkdirTemp(b.dir, "l")
	if err != nil {
		return l, err
	}
	cmd, addr, err := b.daemon(dir, slot, publication)
	if err != nil {
		return l, err
	}
	if err := cmd.Start(); err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, stop(cmd)) }()
	var end string
	if err := b.db.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return l, err
	}
	if err := b.untilPurged(ctx, addr, end); err != nil {
		return l, err
	}

	gone := newSightings()
	watching, done := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer done()
	ready := make(chan struct{})
	watcher.Go(func() {
		hooked := valkey.WithOnSubscriptionHook(watching, func(valkey.PubSubSubscription) { close(ready) })
		_ = client.Receive(hooked, client.B().Subscribe().Channel("__keyevent@0__:del").Build(), func(m valkey.PubSubMessage) { gone.see(m.Message) })
	})
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		return l, errors.New("the cache does not tell what it deletes")
	}
	before, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	committed, err := b.commitAtRate(ctx, n)
	if err != nil {
		return l, err
	}
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	took, err := gone.since(waiting, committed)
	if err != nil {
		return l, err
	}
	after, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	select {
	case <-time.After(seconds * time.Second):
	case <-ctx.Done():
		return l, ctx.Err()
	}
	idle, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[int(share*float64(len(took)-1))] }
	return Latency{
		Rate: rate, P50: at(0.5), P90: at(0.9), P99: at(0.99),
		CPU: (after.CPU - before.CPU).Seconds() / seconds, Idle: (idle.CPU - after.CPU).Seconds() / seconds,
	}, nil
}

func key(id int) string { return fmt.Sprint("product:", id) }

// commitAtRate changes the rows 1 to n and returns when each COMMIT returned.
func (b *bench) commitAtRate(ctx context.Context, n int) ([]time.Time, error) {
	if _, err := b.db.Exec(ctx, "SET synchronous_commit = on"); err != nil {
		return nil, err
	}
	out := make([]time.Time, n)
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for i := range out {
		if _, err := b.db.Exec(ctx, "UPDATE products SET ver = ver + 1 WHERE id = $1", i+1); err != nil {
			return nil, err
		}
		out[i] = time.Now()
		<-tick.C
	}
	return out, nil
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

// since waits until every key is gone and returns how long each took.
func (s *sightings) since(ctx context.Context, committed []time.Time) ([]time.Duration, error) {
	for {
		s.mu.Lock()
		n := len(s.at)
		s.mu.Unlock()
		if n >= len(committed) {
			break
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d keys are gone: %w", n, len(committed), ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]time.Duration, len(committed))
	for i, t := range committed {
		out[i] = max(0, s.at[key(i+1)].Sub(t))
	}
	return out, nil
}
