package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/router/stream/embedded"
)

// shared is the name of a pipeline whose stream other processes may use, and empty for an embedded one.
func shared(cfg *config.Config) string {
	if cfg.NATS.Embedded() {
		return ""
	}
	return cfg.Pipeline
}

// foreign refuses a shared stream that belongs to another database, before anything of it is changed. A database
// that does not answer is asked again when streaming begins.
func foreign(ctx context.Context, cfg *config.Config, nc *nats.Conn) error {
	if shared(cfg) == "" {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	claim, found, err := stream.Newest(asking, nc, cfg.NATS.Domain, cfg.Pipeline)
	if err != nil || !found || claim.Position.Zero() {
		return nil // which is for opening the stream to say
	}
	now, err := cfg.Postgres.Owner(ctx)
	if err != nil {
		return nil
	}
	return router.Foreign(cfg.Pipeline, claim.Owner(), now, cfg.Formerly)
}

// foreignStreams finds the pipelines other than this one whose streams are in the data directory. It is an
// error if this one has none there: the directory belongs to the others. If it has one, an earlier version
// took in both, and each continues with its own.
func foreignStreams(cfg *config.Config) (others []string, err error) {
	if !cfg.NATS.Embedded() {
		return nil, nil
	}
	all := stream.Pipelines(embedded.Streams(cfg.DataDir))
	others = slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == cfg.Pipeline })
	if len(others) == 0 || len(others) < len(all) {
		return others, nil
	}
	return others, fmt.Errorf("data_dir %s holds the stream of pipeline %q, and this is pipeline %q; "+
		"to go on with its backlog, write `pipeline: %[2]s`; to rename it, give the new name a data_dir of its own, and do not drop "+
		"the slot of the old one (walpurge_%[2]s, if postgres.slot did not name another) before the new one has started, which flushes every sink",
		cfg.DataDir, others[0], cfg.Pipeline)
}
