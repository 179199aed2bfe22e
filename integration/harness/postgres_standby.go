package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// StartStandby starts a read replica of the server, which streams from it. cfg is as
// for StartPostgres, but for Template.
func (p *Postgres) StartStandby(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	dir, err := os.MkdirTemp("", "walpurge-backup-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	backup := filepath.Join(dir, "data")
	cmd := exec.CommandContext(ctx, p.cfg.Binaries.Path("pg_basebackup"), "-D", backup, "-R", "-X", "stream", "-c", "fast",
		"-h", p.socketDir, "-p", strconv.Itoa(p.port), "-U", "postgres")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	cfg.Binaries, cfg.Template = p.cfg.Binaries, backup
	return StartPostgres(ctx, cfg)
}
