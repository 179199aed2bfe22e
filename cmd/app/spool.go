package app

import (
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/spool"
)

// maxSpool bounds what large transactions that have not ended come to, on disk, in bytes.
const maxSpool = 1 << 30

// spoolDir is below data_dir. A daemon whose stream is elsewhere needs no data_dir: without one, or where it cannot be
// written, the spool is in the directory for temporary files.
func spoolDir(cfg *config.Config) string {
	dir := filepath.Join(cfg.DataDir, "spool")
	if cfg.NATS.Embedded() {
		return dir
	}
	if _, err := os.Stat(cfg.DataDir); err != nil || os.MkdirAll(dir, 0o700) != nil {
		return os.TempDir()
	}
	return dir
}

func (a *App) spool() *spool.Pool {
	pool := spool.NewPool(spoolDir(a.cfg), maxSpool)
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "walpurge", Name: "spool_bytes", Help: "Size on disk of what large transactions that have not ended come to.",
	}, func() float64 { return float64(pool.Used()) }))
	return pool
}
