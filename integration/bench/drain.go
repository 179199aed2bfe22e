package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/walpurge/walpurge/cdc/postgres/catchup"
)

// drained is one round of one program.
type drained struct {
	Took   time.Duration `json:"took"`
	CPU    time.Duration `json:"cpu"`
	Sender time.Duration `json:"walsender_cpu"`
	Peak   int64         `json:"peak_bytes"`
}

// fork copies the slot, so that every round drains the same backlog.
func (b *bench) fork(ctx context.Context, name string) error {
	_, err := b.db.Exec(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", slot, name)
	return err
}

func (b *bench) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := b.db.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// floor drains with pg_recvlogical to /dev/null: what the server alone can do.
func (b *bench) floor(ctx context.Context, end string) (d drained, err error) {
	if err := b.fork(ctx, "bench_floor"); err != nil {
		return d, err
	}
	defer func() { err = joined(err, b.drop("bench_floor")) }()
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "pg_recvlogical"), "-d", b.pg.URL("bench"), "-S", "bench_floor", "--start",
		"-P", "pgoutput", "-o", "proto_version=1", "-o", "publication_names="+publication, "--endpos", end, "-f", "/dev/null", "--no-loop")
	cmd.Stderr = b.log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return d, err
	}
	sender := b.senderCPU(ctx, "bench_floor")
	err = cmd.Wait()
	d.Took = time.Since(began)
	d.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	d.Sender = sender()
	return d, err
}

// end2end drains with the daemon, from its start until every sink has purged
// and the slot is confirmed.
func (b *bench) end2end(ctx context.Context, publication, end string) (d drained, err error) {
	if err := b.fork(ctx, "bench_walpurge"); err != nil {
		return d, err
	}
	defer func() { err = joined(err, b.drop("bench_walpurge")) }()
	dir, err := os.MkdirTemp(b.dir, "e")
	if err != nil {
		return d, err
	}
	defer os.RemoveAll(dir)
	if err := b.cache.fill(ctx, 1, min(b.cfg.Rows, products)); err != nil {
		return d, err
	}
	cmd, addr, err := b.daemon(dir, "bench_walpurge", publication)
	if err != nil {
		return d, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return d, err
	}
	sender := b.senderCPU(ctx, "bench_walpurge")
	if err = b.untilPurged(ctx, addr, end); err == nil {
		err = b.untilConfirmed(ctx, "bench_walpurge", end)
	}
	d.Took = time.Since(began)
	if u, uerr := used(cmd.Process.Pid); uerr == nil {
		d.CPU, d.Peak = u.CPU, u.Peak
	}
	d.Sender = sender()
	if err == nil {
		err = b.cache.empty(ctx)
	}
	return d, joined(err, stop(cmd))
}

// stop ends the daemon in good order.
func stop(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	return cmd.Wait()
}

// daemon is a call of walpurge on the slot. Its data directory is new, so it begins with a flush, which after an
// outage it would not do: at the default rate its walk over the cache would take two seconds, and hide the drain.
func (b *bench) daemon(dir, slot, publication string) (*exec.Cmd, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	rules := `rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
`
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules), 0o644); err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "walpurge.yaml")
	text := fmt.Sprintf(`pipeline: bench
rules: [rules.yaml]
data_dir: %s
postgres: {url: %q, slot: %s, publication: %s, manage: false}
sinks:
  cache:
    valkey: {url: %q, scan: {keys_per_second: 100000000}}
    flush: {key_patterns: ["none:*"]}
http: {listen: %q}
log: {level: warn}
`, filepath.Join(dir, "data"), b.url, slot, publication, b.valkey.URL(), addr)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(b.cfg.Walpurge, "run", "-c", file)
	cmd.Stderr = b.log
	return cmd, addr, nil
}

// untilPurged polls, since the daemon listens only after a while.
func (b *bench) untilPurged(ctx context.Context, addr, end string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/wait?timeout=5m&lsn="+end, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			var told struct{ Error string }
			_ = json.Unmarshal(body, &told)
			if resp.StatusCode != http.StatusGatewayTimeout {
				return fmt.Errorf("wait: %s", told.Error)
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *bench) untilConfirmed(ctx context.Context, name, end string) error {
	for {
		var done bool
		err := b.db.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", name, end).Scan(&done)
		if err != nil || done {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// senderCPU notes the walsender of a slot; the function returns what it used. Between two parts of a backlog the slot is not
// active, but the walsender holds the lock of the slot.
func (b *bench) senderCPU(ctx context.Context, name string) func() time.Duration {
	pid := 0
	for range 2000 {
		if b.db.QueryRow(ctx, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1 AND active", name).Scan(&pid) == nil {
			break
		}
		if b.db.QueryRow(ctx, catchup.OwnerStatement(name)).Scan(&pid) == nil && pid != 0 {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	var last time.Duration
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if u, err := used(pid); err == nil {
				last = u.CPU
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		<-done
		return last
	}
}
