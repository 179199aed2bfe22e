package integration

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// blocks lists the files that hold the messages of the pipeline's main stream.
func (r *rig) blocks() []string {
	r.t.Helper()
	found, err := filepath.Glob(r.path("data/jetstream/*/streams/walpurge_app/msgs/*.blk"))
	require.NoError(r.t, err)
	var out []string
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			out = append(out, path)
		}
	}
	require.NotEmpty(r.t, out)
	return out
}

// TestDamagedStore breaks the stream's files between two runs. What was confirmed
// to the server may have been in them, so every copy must go.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	d.term()
	for _, c := range []struct {
		name   string
		damage func()
	}{
		{"rolled back", func() {
			require.NoError(t, os.RemoveAll(r.path("data")))
			require.NoError(t, os.CopyFS(r.path("data"), os.DirFS(r.path("old"))))
		}},
		{"truncated", func() {
			for _, path := range r.blocks() {
				info, err := os.Stat(path)
				require.NoError(t, err)
				require.NoError(t, os.Truncate(path, info.Size()/2))
			}
		}},
		{"a false sequence", func() {
			for _, path := range r.blocks() {
				raw, err := os.ReadFile(path)
				require.NoError(t, err)
				if len(raw) == 0 {
					continue
				}
				// A record in the middle, however few the updates came in: see router/stream/embedded.
				at := 0
				for range 10 {
					if next := at + int(binary.LittleEndian.Uint32(raw[at:])&^(1<<31)); next < len(raw) {
						at = next
					}
				}
				raw[at+4+5] = 0x55
				require.NoError(t, os.WriteFile(path, raw, 0o600))
			}
		}},
		{"emptied", func() {
			for _, path := range r.blocks() {
				require.NoError(t, os.Truncate(path, 0))
			}
		}},
		{"blocks deleted", func() {
			for _, path := range r.blocks() {
				require.NoError(t, os.Remove(path))
			}
		}},
	}[:rounds(3, 5)] {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(r.path("old")))
			require.NoError(t, os.CopyFS(r.path("old"), os.DirFS(r.path("data"))))
			d := r.start()
			for range 20 {
				r.exec("UPDATE products SET ver = ver + 1 WHERE id = 1")
			}
			d.wait(r.lsn(), 30*time.Second)
			d.term()
			c.damage()
			r.fill([]string{"product:1", "product:slug:a", "stays"}, "/product-1", "/product-2")
			r.exec("UPDATE products SET name = $1 WHERE id = 1", c.name)

			d = r.start()
			d.wait(r.lsn(), 30*time.Second)
			require.Equal(t, []string{"stays"}, r.held("product:1", "product:slug:a", "stays"))
			require.Zero(t, r.edge.Objects(), "flushed, not only purged of what changed since")
			d.fresh()
			d.term()
		})
	}
}
