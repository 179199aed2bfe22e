package app

import (
	"context"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/config"
)

// skipTimeout is how long a skip waits for the database.
const skipTimeout = time.Minute

// Skip implements admin.Hand.
func (a *App) Skip(ctx context.Context, r admin.SkipRequest) (admin.SkipReport, error) {
	if r.To != "current" {
		return admin.SkipReport{}, &admin.BadRequestError{Err: fmt.Errorf("to %q: write current, the end of the log", r.To)}
	}
	if r.Pipeline != a.cfg.Pipeline {
		return admin.SkipReport{}, &admin.BadRequestError{Err: fmt.Errorf("this is pipeline %q, not %q", a.cfg.Pipeline, r.Pipeline)}
	}
	ctx, cancel := context.WithTimeout(ctx, skipTimeout)
	defer cancel()
	from, to, err := a.reader.Skip(ctx)
	if standby := a.standby(ctx); err != nil && standby != nil {
		return admin.SkipReport{}, standby
	}
	if err != nil {
		return admin.SkipReport{}, fmt.Errorf("the slot was not moved, and will not be: %w; the reader says: %s", err, a.reader.State().Err)
	}
	return skipped(from, to), nil
}

// SkipUnread does the same for a pipeline whose daemon does not run; the flush comes
// with its next start.
func SkipUnread(ctx context.Context, cfg *config.Config) (admin.SkipReport, error) {
	from, to, err := cfg.Postgres.SkipUnread(ctx)
	if postgres.Busy(err) {
		if l := newestLeader(ctx, cfg); l.Address != "" {
			err = fmt.Errorf("%w; %s leads, call that one with --addr %s", err, l, l.Address)
		}
	}
	if err != nil {
		return admin.SkipReport{}, err
	}
	return skipped(from, to), nil
}

func skipped(from, to cdc.LSN) admin.SkipReport {
	return admin.SkipReport{From: from.String(), To: to.String()}
}
