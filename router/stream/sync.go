package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// syncPause is the least time between two syncs: it bounds what they cost a
// disk that PostgreSQL may share, and how far confirmation trails publication.
const syncPause = 25 * time.Millisecond

// RunSync moves the synced mark: whenever something was published since, it
// makes the store durable and then advances to what had been published before.
// It returns nil when the context ends; a failed sync is a *cdc.Halt, because
// what the kernel could not write may be lost and must not be confirmed.
func (s *Stream) RunSync(ctx context.Context, board *watermark.Board) error {
	published, synced := watermark.Mark{Stage: watermark.Published}, watermark.Mark{Stage: watermark.Synced}
	for {
		changed := board.Watch()
		p := board.Get(published)
		if p == board.Get(synced) {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if failpoint.On("confirm_before_sync") {
			board.Advance(synced, p)
			told, cancel := context.WithTimeout(ctx, time.Second)
			_ = board.Wait(told, watermark.Mark{Stage: watermark.Confirmed}, p)
			cancel()
		}
		failpoint.Crash("claimed")
		if s.cfg.Sync != nil {
			if err := s.cfg.Sync(); err != nil {
				return &cdc.Halt{Err: fmt.Errorf("sync the stream to disk: %w", err)}
			}
		}
		failpoint.Crash("synced")
		board.Advance(synced, p)
		select {
		case <-time.After(syncPause):
		case <-ctx.Done():
			return nil
		}
	}
}
