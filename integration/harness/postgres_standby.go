package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// StartStandby starts a read replica of the server, which streams from it. cfg is as
// for StartPostgres, but for Template. An installation without pg_basebackup is copied
// while it is stopped, which ends the connections to it.
func (p *Postgres) StartStandby(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	dir, err := MkdirScratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	backup := filepath.Join(dir, "data")
	cfg.Binaries, cfg.Template = p.cfg.Binaries, backup
	if _, err := os.Stat(p.cfg.Binaries.Path("pg_basebackup")); errors.Is(err, fs.ErrNotExist) {
		if err := p.copyStopped(ctx, backup); err != nil {
			return nil, fmt.Errorf("copy the primary: %w", err)
		}
		settings := map[string]string{"primary_conninfo": p.StandbyConninfo()}
		maps.Copy(settings, cfg.Settings)
		cfg.Settings = settings
		return StartPostgres(ctx, cfg)
	}
	cmd := exec.CommandContext(ctx, p.cfg.Binaries.Path("pg_basebackup"), "-D", backup, "-R", "-X", "stream", "-c", "fast",
		"-h", p.socketDir, "-p", strconv.Itoa(p.port), "-U", "postgres")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	return StartPostgres(ctx, cfg)
}

// StandbyConninfo is a primary_conninfo for a standby of this server. It names a
// database, as a standby needs to that takes over slots.
func (p *Postgres) StandbyConninfo() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", p.port)
}

// copyStopped copies the cluster, as a standby, between a clean stop and a start.
func (p *Postgres) copyStopped(ctx context.Context, dst string) error {
	if _, err := p.Stop(ctx, Fast); err != nil {
		return err
	}
	if err := copyTree(p.dataDir(), dst, nil); err != nil {
		return err
	}
	// As a base backup leaves them out: slots are of the server, not of the cluster.
	slots, err := filepath.Glob(filepath.Join(dst, "pg_replslot", "*"))
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if err := os.RemoveAll(slot); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dst, "standby.signal"), nil, 0o600); err != nil {
		return err
	}
	return p.Restart(ctx)
}
