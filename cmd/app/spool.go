package app

import (
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/router/spool"
)

// maxSpool bounds what large transactions that have not ended come to, on disk, in bytes.
const maxSpool = 1 << 30

// spool lies beside the embedded stream; a daemon whose stream is elsewhere may have no
// directory of its own.
func (a *App) spool() *spool.Pool {
	dir := os.TempDir()
	if a.cfg.NATS.Embedded() {
		dir = filepath.Join(a.cfg.DataDir, "spool")
	}
	pool := spool.NewPool(dir, maxSpool)
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "walpurge", Name: "spool_bytes", Help: "Size on disk of what large transactions that have not ended come to.",
	}, func() float64 { return float64(pool.Used()) }))
	return pool
}
