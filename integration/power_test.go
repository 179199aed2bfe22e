//go:build failpoints

package integration

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// power is a disk that loses what was not synced. The daemon keeps a copy of its store
// whenever a sync has returned, and that copy is all that a cut leaves.
type power struct {
	*rig
	copied string
	cuts   int
	lost   int64 // bytes of messages that cuts have taken
}

func newPower(r *rig) *power { return &power{rig: r, copied: r.path("synced")} }

// armed is the environment of a daemon that is killed between a write and its sync, at
// one of the passages after the trigger exists.
func (p *power) armed(trigger, bugs string) string {
	return fmt.Sprintf("WALPURGE_FAILPOINTS=copy_synced@%s,claimed:%d@%s,%s", p.copied, 1+rand.IntN(8), trigger, bugs)
}

// messages sums up the bytes in the block files of a store.
func messages(t *testing.T, store string) (sum int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(store, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".blk") {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	}))
	return sum
}

// cut puts the store back to what was synced. The floors of the lanes are in no sync: with
// floors set they have survived all the same, and lie beyond messages that are gone.
func (p *power) cut(floors bool) {
	p.t.Helper()
	store := p.path("data/jetstream")
	p.lost += messages(p.t, store) - messages(p.t, p.copied)
	kept := p.path("kept")
	require.NoError(p.t, os.RemoveAll(kept))
	require.NoError(p.t, os.Rename(store, kept))
	require.NoError(p.t, os.CopyFS(store, os.DirFS(p.copied)))
	if !floors {
		return
	}
	obs, err := filepath.Glob(filepath.Join(kept, "*/streams/*/obs"))
	require.NoError(p.t, err)
	require.NotEmpty(p.t, obs)
	for _, dir := range obs {
		rel, err := filepath.Rel(kept, dir)
		require.NoError(p.t, err)
		require.NoError(p.t, os.RemoveAll(filepath.Join(store, rel)))
		require.NoError(p.t, os.CopyFS(filepath.Join(store, rel), os.DirFS(dir)))
	}
}

// run cuts the power so many times under load, and calls judge with each daemon that is up
// again and has purged all.
func (p *power) run(cuts int, bugs string, judge func(d *daemon)) {
	p.t.Helper()
	for range cuts {
		p.cuts++
		trigger := p.path(fmt.Sprintf("cut-%d", p.cuts))
		d := p.start(p.armed(trigger, bugs))
		d.wait(p.lsn(), time.Minute)
		judge(d)
		w := startWriters(p.rig, 4)
		eventually(p.t, 20*time.Second, func() bool { return w.count() > 50 }, "rows are written")
		require.NoError(p.t, os.WriteFile(trigger, nil, 0o600))
		d.ends("between the claim and the sync")
		eventually(p.t, 20*time.Second, func() bool { return w.count() > 100 }, "the writers go on without the daemon")
		w.halt(p.t)
		p.cut(p.cuts%2 == 0)
	}
	d := p.start()
	d.wait(p.lsn(), time.Minute)
	judge(d)
	d.term()
}

const behind = `walpurge_flushes_total{reason="stream_behind",sink="cache"}`

// TestPowerCut takes the power away between a write and its sync. What is gone was never
// confirmed, so the database sends it again, and nothing needs a flush.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	p := newPower(r)
	p.run(rounds(4, 30), "none", func(d *daemon) {
		require.Empty(t, o.lost())
		require.Equal(t, "0", d.metric(behind), "the slot was not confirmed beyond what was synced")
	})
	require.Positive(t, p.lost, "the cuts took nothing")
	t.Logf("%d bytes of messages lost, and no purge", p.lost)
}

// TestConfirmBeforeSyncIsCaught proves that TestPowerCut would notice: what is confirmed
// before its sync is gone from the database and from the disk, and only a flush is left.
func TestConfirmBeforeSyncIsCaught(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	p := newPower(r)
	// A cut right after a sync takes nothing that was confirmed.
	for flushed := false; !flushed; {
		require.Less(t, p.cuts, 6, "a slot that was confirmed too early must show as a gap")
		p.run(1, "confirm_before_sync", func(d *daemon) { flushed = flushed || d.metric(behind) != "0" })
	}
}
