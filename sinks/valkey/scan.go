package valkey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// scanCount is the COUNT of one SCAN: large enough for few round trips, small
// enough that the pace is even and the server is never held up for long.
func scanCount(keysPerSecond int) int {
	return min(max(keysPerSecond/20, 1), 1000)
}

// walk goes once over the key space of all primaries and unlinks every key that
// one of the globs matches; what failed is put into failed, by place.
//
// SCAN finds each key that is there from beginning to end. A key that is written
// while the walk runs may be missed: it was written after the purge began, so
// its writer could see the change.
//
// In a cluster the slots must not move meanwhile, or keys could move from a
// node not yet walked to one already walked; if the slot table differs at the
// end the walk fails and is to be made again. Keys that are migrated one by one
// (MIGRATE) within a walk, without the table changing in it, go unnoticed.
func (s *Sink) walk(ctx context.Context, client valkey.Client, all []glob, failed failures) {
	if len(all) == 0 {
		return
	}
	g := newGlobs(all)
	err := s.walkAll(ctx, client, g, failed)
	if err == nil {
		return
	}
	for _, one := range all {
		failed[one.place] = err
	}
}

// WalkTime is how long one walk over the key space takes at scan.keys_per_second, with the keys
// that the servers have now. It asks each primary for its DBSIZE.
func (s *Sink) WalkTime(ctx context.Context) (time.Duration, error) {
	l, err := s.connected(ctx)
	if err != nil {
		return 0, err
	}
	of, err := s.primaries(ctx, l)
	if err != nil {
		return 0, err
	}
	keys := int64(0)
	for _, node := range of.nodes {
		n, err := node.Do(ctx, node.B().Dbsize().Build()).AsInt64()
		if err != nil {
			return 0, s.classify("DBSIZE", err)
		}
		keys += n
	}
	return time.Duration(float64(keys) / float64(s.cfg.Scan.KeysPerSecond) * float64(time.Second)), nil
}

// Walks reports whether the sink walks over the key space for an invalidation of this kind.
func Walks(k invalidation.Kind) bool {
	return k == invalidation.KeyPrefix || k == invalidation.KeyPattern || k == invalidation.Everything
}

// walkAll returns what makes the whole walk worthless.
func (s *Sink) walkAll(ctx context.Context, client valkey.Client, g *globs, failed failures) error {
	before, err := s.primaries(ctx, client)
	if err != nil {
		return err
	}
	for _, node := range before.nodes {
		if err := s.walkNode(ctx, node, client, g, failed); err != nil {
			return err
		}
	}
	after, err := s.primaries(ctx, client)
	if err != nil {
		return err
	}
	if before.slots != after.slots {
		return errors.New("valkey: slots moved between nodes during the walk; the purge is to be tried again")
	}
	return nil
}

// walkNode scans node and unlinks what it finds through client.
func (s *Sink) walkNode(ctx context.Context, node, client valkey.Client, g *globs, failed failures) error {
	count := s.pace.Burst()
	cursor := uint64(0)
	ask := g.ask()
	for {
		if err := s.pace.WaitN(ctx, count); err != nil {
			return fmt.Errorf("valkey: SCAN: %w", err)
		}
		entry, err := s.scan(ctx, node, cursor, ask, count)
		if err != nil {
			return s.classify("SCAN", err)
		}
		if err := s.unlinkFound(ctx, client, entry.Elements, g, failed); err != nil {
			return err
		}
		if cursor = entry.Cursor; cursor == 0 {
			return nil
		}
	}
}

func (s *Sink) scan(ctx context.Context, node valkey.Client, cursor uint64, pattern string, count int) (valkey.ScanEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	return node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(int64(count)).Build()).AsScanEntry()
}

// unlinkFound fails the patterns that match a key which may not be touched, and
// returns any other error: that of the walk.
func (s *Sink) unlinkFound(ctx context.Context, client valkey.Client, found []string, g *globs, failed failures) error {
	var keys work
	var matching [][]int
	for _, key := range found {
		if places := g.match(key); len(places) > 0 {
			keys.add(len(matching), key)
			matching = append(matching, places)
		}
	}
	lost := failures{}
	if err := s.unlink(ctx, client, []work{keys}, lost); err != nil {
		return err
	}
	for i, err := range lost {
		if !errors.Is(err, errKeyDenied) {
			return err
		}
		for _, place := range matching[i] {
			failed[place] = err
		}
	}
	return nil
}
