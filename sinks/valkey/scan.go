package valkey

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// scanCount is the COUNT of one SCAN: large enough for few round trips, small
// enough that the pace is even and the server is never held up for long.
func scanCount(keysPerSecond int) int {
	return min(max(keysPerSecond/20, 1), 1000)
}

// walk unlinks every key that matches the glob, on all primaries. SCAN finds
// each key that is there from beginning to end; a key that is written while
// the walk runs may stay, and was written after the purge began.
//
// In a cluster the slots must not move meanwhile, or keys could move from a
// node not yet walked to one already walked; if the slot table differs at the
// end the walk fails and is to be made again. Keys that are migrated one by one
// (MIGRATE) within a walk, without the table changing in it, go unnoticed.
func (s *Sink) walk(ctx context.Context, client valkey.Client, pattern string) error {
	before, err := s.primaries(ctx, client)
	if err != nil {
		return err
	}
	for _, node := range before.nodes {
		if err := s.walkNode(ctx, node, client, pattern); err != nil {
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
func (s *Sink) walkNode(ctx context.Context, node, client valkey.Client, pattern string) error {
	count := s.pace.Burst()
	cursor := uint64(0)
	for {
		if err := s.pace.WaitN(ctx, count); err != nil {
			return fmt.Errorf("valkey: SCAN: %w", err)
		}
		entry, err := s.scan(ctx, node, cursor, pattern, count)
		if err != nil {
			return s.classify("SCAN", err)
		}
		if err := s.unlinkFound(ctx, client, entry.Elements); err != nil {
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

func (s *Sink) unlinkFound(ctx context.Context, client valkey.Client, found []string) error {
	var keys work
	for i, key := range found {
		keys.add(i, key)
	}
	failed := failures{}
	s.unlink(ctx, client, keys, failed)
	for _, err := range failed {
		return err
	}
	return nil
}

// escapeGlob makes a literal text match itself in a glob, byte for byte.
func escapeGlob(s string) string {
	return globEscaper.Replace(s)
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
