package bench

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// alone drains with walpurge's reader in this process: rows are decoded, and nothing comes
// after that. No more can be had of a daemon, whatever its other parts cost.
func (b *bench) alone(ctx context.Context, end string) (d drained, err error) {
	const name = "bench_alone"
	target, err := cdc.ParseLSN(end)
	if err != nil {
		return d, err
	}
	if err := b.fork(ctx, name); err != nil {
		return d, err
	}
	defer func() { err = joined(err, b.drop(name)) }()
	cfg := postgres.DefaultConfig("bench")
	cfg.URL, cfg.Slot, cfg.Publication, cfg.Manage = b.url, name, publication, false
	board := watermark.NewBoard()
	reader := postgres.NewReader(cfg, postgres.Options{
		Board: board, Confirm: watermark.ConfirmSynced,
		Watch: func() postgres.Watch {
			return postgres.Watch{Tables: []cdc.Table{{Schema: "public", Name: "products"}}}
		},
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	before, err := used(os.Getpid())
	if err != nil {
		return d, err
	}
	began := time.Now()
	reading, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer stop() // a reader that fails is not waited for
		ended <- reader.Run(reading, idle{board})
	}()
	sender := b.senderCPU(ctx, name)
	err = board.Wait(reading, watermark.Mark{Stage: watermark.Synced}, cdc.Position{Timeline: 1, LSN: target})
	if err == nil {
		err = b.untilConfirmed(reading, name, end)
	}
	d.Took = time.Since(began)
	if u, uerr := used(os.Getpid()); uerr == nil {
		d.CPU = u.CPU - before.CPU
	}
	d.Sender = sender()
	stop()
	return d, joined(<-ended, err)
}

// idle takes what it is handed, and calls it safe.
type idle struct{ board *watermark.Board }

func (idle) Start(context.Context, cdc.Session) error                { return nil }
func (idle) Change(context.Context, *cdc.Txn, *cdc.Change) error     { return nil }
func (idle) Reads(*cdc.Txn, *cdc.Relation) []bool                    { return nil }
func (idle) Hears(*cdc.Txn, string) int                              { return 1 << 30 }
func (idle) TableGap(context.Context, *cdc.Txn, cdc.TableGap) error  { return nil }
func (idle) Message(context.Context, *cdc.Txn, string, []byte) error { return nil }
func (idle) Abort(context.Context, *cdc.Txn) error                   { return nil }
func (idle) Commit(context.Context, *cdc.Txn) error                  { return nil }
func (i idle) Rest(context.Context, cdc.Rest) error {
	i.board.Advance(watermark.Mark{Stage: watermark.Synced}, i.board.Get(watermark.Mark{Stage: watermark.Received}))
	return nil
}
