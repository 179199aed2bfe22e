//go:build soak

package integration

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
)

// What make soak-hours sets. Paths are absolute, because a test runs in its package's directory.
var (
	soakHours  = flag.Float64("hours", 0.05, "how long the load lasts")
	soakBinary = flag.String("walpurge", "", "the binary under test")
	soakOutput = flag.String("output", "", "the directory of soak-hours.txt, .csv and .log")
)

const (
	// soakRate is in transactions a second, of one to three rows each.
	soakRate    = 100
	soakWriters = 4
	// soakTenants and soakColumns are how many there are at a time, so that the catalog does
	// not grow for as long as the run lasts.
	soakTenants = 6
	soakColumns = 6
	// soakHang ends a run that stands still.
	soakHang = 5 * time.Minute
)

// soak is one run: the daemon's binary on real servers, under a bounded load, while one
// event after the other disturbs it.
type soak struct {
	*rig
	oracle  *oracle
	addr    string
	log     *os.File
	daemon  atomic.Pointer[daemon]
	samples *samples
	began   time.Time
	total   time.Duration

	// load is held for reading by each transaction, and for writing by a verdict.
	load    sync.RWMutex
	commits atomic.Int64

	primary, standby *harness.Postgres
	// relays lead to the primary and to the standby.
	relays   [2]*relay
	clusters int

	tenants, columns []string
	made             int
	withVersions     bool
	withOther        bool
	events           map[string]int
	flushes          string
	findings         []string
}

// TestSoakHours runs for hours. From the second quarter on, one daemon lives to the end of the
// load, and its memory, goroutines, file descriptors and disk must stay flat. After every
// event the writers pause, and the oracle must find that nothing was lost.
func TestSoakHours(t *testing.T) {
	require.FileExists(t, *soakBinary)
	s := newSoak(t)
	defer s.summarize()
	w := s.startLoad()
	defer w()

	events := []struct {
		name string
		run  func()
	}{
		{"reload of rules", s.reloadRules}, {"kill of the cache", s.killCache}, {"new table", s.newTenant},
		{"reload of sinks", s.reloadSinks}, {"new column", s.newColumn}, {"failing edge", s.failEdge},
		{"lost connections", s.cutConnections}, {"failover", s.failover},
	}
	restarts := []func(){s.terminate, s.kill, s.kill}
	period := min(max(s.total/100, 10*time.Second), 90*time.Second)
	for n := 0; time.Since(s.began) < s.total; n++ {
		e := events[n%len(events)]
		began := time.Now()
		e.run()
		s.events[e.name]++
		s.verdict(e.name)
		t.Logf("%s: %s took %s; %d transactions so far", s.elapsed(), e.name, time.Since(began).Round(100*time.Millisecond), s.commits.Load())
		// All restarts fall into the first quarter.
		if len(restarts) > 0 && time.Since(s.began) > s.total/25 {
			restarts[0]()
			restarts = restarts[1:]
			s.verdict("restart")
		}
		select {
		case <-time.After(min(period-time.Since(began), s.total-time.Since(s.began))):
		case <-s.daemon.Load().done:
			require.FailNow(t, "the daemon ended by itself", s.daemon.Load().logs.tail(100))
		}
	}
	s.samples.stop()
	require.Empty(t, restarts, "the run was too short for its restarts")
	s.kill()
	s.verdict("the last kill")
	w()
	s.daemon.Load().fresh()
	s.daemon.Load().term()
	for _, f := range s.samples.judge(s.total) {
		s.find("%s", f)
	}
	require.Empty(t, s.findings)
}

func newSoak(t *testing.T) *soak {
	s := &soak{
		rig:   newRig(t, rigOptions{binaries: major(t, 17), catalog: tenantCatalog}),
		total: time.Duration(*soakHours * float64(time.Hour)), events: make(map[string]int), addr: freeAddr(t),
	}
	s.primary = s.pg
	var err error
	s.log, err = os.Create(filepath.Join(*soakOutput, "soak-hours.log"))
	require.NoError(t, err)
	t.Cleanup(func() { s.log.Close() })
	for i := range s.relays {
		s.relays[i] = newRelay(t)
	}
	s.addStandby()
	// Daemon and writers go through the relays, whose addresses outlive the servers.
	s.pgURL = fmt.Sprintf("postgres://postgres@%s,%s/app?sslmode=disable&target_session_attrs=read-write&connect_timeout=5", s.relays[0].addr(), s.relays[1].addr())
	s.db.Close()
	s.db, err = pgxpool.New(t.Context(), s.pgURL)
	require.NoError(t, err)
	t.Cleanup(s.db.Close)
	s.oracle = newOracle(s.rig)
	// The stream keeps what was purged until it is nearly full, which has to be before the second
	// quarter begins.
	s.extra = fmt.Sprintf("stream: {max_bytes: %dMiB}", max(8, int(16**soakHours)))
	s.config(s.addr)
	s.edit("walpurge.yaml", "postgres:\n", "postgres:\n  heartbeat: 1s\n")
	s.samples = newSamples(s, max(time.Second, s.total/1440))
	s.start()
	s.began = time.Now()
	go s.samples.run()
	t.Cleanup(s.samples.stop)
	return s
}

func (s *soak) elapsed() time.Duration { return time.Since(s.began).Round(time.Second) }

func (s *soak) find(format string, args ...any) {
	f := fmt.Sprintf("%s: %s", s.elapsed(), fmt.Sprintf(format, args...))
	s.t.Log("FOUND ", f)
	s.findings = append(s.findings, f)
}

// start runs the binary and waits until it streams.
func (s *soak) start() {
	s.t.Helper()
	d := &daemon{t: s.t, addr: s.addr, logs: &logs{}, done: make(chan struct{})}
	d.cmd = exec.Command(*soakBinary, "run", "-c", s.path("walpurge.yaml"))
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.cmd.Stderr = io.MultiWriter(d.logs, s.log)
	d.begin()
	s.daemon.Store(d)
	s.untilStreaming()
}

func (s *soak) untilStreaming() {
	s.t.Helper()
	d := s.daemon.Load()
	eventually(s.t, soakHang, func() bool {
		code, _ := d.get("/-/streaming")
		return code == http.StatusOK
	}, "the daemon streams: %s", d.logs.tail(30))
}

func (s *soak) terminate() {
	s.t.Logf("%s: SIGTERM", s.elapsed())
	s.events["SIGTERM of the daemon"]++
	s.daemon.Load().term()
	s.start()
}

func (s *soak) kill() {
	s.t.Logf("%s: SIGKILL", s.elapsed())
	s.events["SIGKILL of the daemon"]++
	s.daemon.Load().kill()
	s.start()
}

// startLoad writes at a bounded rate, and fills the caches as readers would. It returns what
// stops it.
func (s *soak) startLoad() func() {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	every := func(d time.Duration, seed uint64, do func(*rand.Rand)) {
		rnd := rand.New(rand.NewPCG(seed, 42))
		wg.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for ctx.Err() == nil {
				select {
				case <-tick.C:
					do(rnd)
				case <-ctx.Done():
				}
			}
		})
	}
	for i := range soakWriters {
		every(soakWriters*time.Second/soakRate, uint64(i), func(rnd *rand.Rand) {
			s.load.RLock()
			defer s.load.RUnlock()
			// While no primary is there, nothing is committed; a verdict sees to it that this ends.
			if write(ctx, s.db, rnd) == nil {
				s.commits.Add(1)
			}
		})
	}
	every(50*time.Millisecond, soakWriters, func(rnd *rand.Rand) {
		id := fmt.Sprint(1 + rnd.IntN(products))
		// A cache that is down holds nothing.
		_ = s.cache.Do(ctx, s.cache.B().Set().Key("product:"+id).Value("v").Build()).Error()
		if resp, err := http.Get(s.edge.URL() + "/product-" + id); err == nil {
			resp.Body.Close()
		}
	})
	return func() { stop(); wg.Wait() }
}

// verdict pauses the writers until everything is purged, and asks the oracle.
func (s *soak) verdict(after string) {
	s.t.Helper()
	before := s.commits.Load()
	eventually(s.t, soakHang, func() bool { return s.commits.Load() > before+soakRate }, "rows are written after %s", after)
	s.load.Lock()
	defer s.load.Unlock()
	d := s.daemon.Load()
	d.wait(s.lsn(), soakHang)
	if lost := s.oracle.lost(); len(lost) > 0 {
		s.find("after %s: %d lost purges:\n%s", after, len(lost), strings.Join(lost[:min(5, len(lost))], "\n"))
	}
	gaps := d.gaps()
	// A tenant that comes or goes is a gap of its table.
	delete(gaps, "table")
	if len(gaps) > 0 {
		s.find("after %s: gaps %v", after, gaps)
	}
	if flushes := d.flushes(); flushes != "" && flushes != s.flushes {
		s.find("after %s: sinks were flushed for no reason of this run: %s", after, flushes)
		s.flushes = flushes
	}
	for _, sink := range d.status().Sinks {
		if sink.Parked > 0 {
			s.find("after %s: %d parked at %s: %s", after, sink.Parked, sink.Name, sink.Error)
		}
	}
}

// flushes lists the counters of flushes that are not 0.
func (d *daemon) flushes() string {
	var out []string
	_, text := d.get("/metrics")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "walpurge_flushes_total{") && !strings.HasSuffix(line, " 0") {
			out = append(out, line)
		}
	}
	return strings.Join(out, ", ")
}

func (s *soak) reload() {
	s.t.Helper()
	d := s.daemon.Load()
	// The primary may have just been replaced, and a reload asks it.
	eventually(s.t, soakHang, func() bool {
		code, _ := d.post("/-/reload")
		return code == http.StatusOK
	}, "the reload succeeds: %s", d.logs.tail(10))
	s.untilStreaming()
}

func (s *soak) reloadRules() {
	const rule = "  - {name: version, table: public.versions, keys: [\"version:{id}\"]}\n"
	if s.withVersions = !s.withVersions; s.withVersions {
		s.edit("rules/catalog.yaml", "  - name: product\n", rule+"  - name: product\n")
	} else {
		s.edit("rules/catalog.yaml", rule, "")
	}
	s.reload()
}

// reloadSinks adds a sink or takes it out, and changes a limit.
func (s *soak) reloadSinks() {
	other := "  other:\n    valkey: {url: '" + strings.TrimSuffix(s.valkeyURL, "/0") + "/1'}\n"
	const retired = "retired: [other]\n"
	if s.withOther = !s.withOther; s.withOther {
		s.write("walpurge.yaml", strings.Replace(s.read("walpurge.yaml"), retired, "", 1))
		s.edit("walpurge.yaml", "  edge:\n", other+"  edge:\n", "requests_per_second: 1000", "requests_per_second: 900")
	} else {
		s.edit("walpurge.yaml", other, "", "http: {", retired+"http: {", "requests_per_second: 900", "requests_per_second: 1000")
	}
	s.reload()
}

func (s *soak) killCache() {
	require.NoError(s.t, s.vk.Kill())
	pick(2*time.Second, 10*time.Second)
	require.NoError(s.t, s.vk.Restart(s.t.Context()))
}

func (s *soak) failEdge() {
	for _, f := range []edge.Fault{{Kind: edge.Throttled, Wait: time.Second}, {Kind: edge.ServerError}, {Kind: edge.Refused}, {Kind: edge.Reset}} {
		s.edge.Inject(3, f)
		pick(500*time.Millisecond, time.Second)
	}
	s.edge.Heal()
}

func (s *soak) cutConnections() {
	for _, r := range s.relays {
		r.cut()
	}
	s.db.Reset()
}

// ddl runs a statement of the application, again while the primary is away.
func (s *soak) ddl(sql string) {
	s.t.Helper()
	var err error
	eventually(s.t, soakHang, func() bool {
		_, err = s.db.Exec(s.t.Context(), sql)
		return err == nil
	}, "%s", sql)
}

// newTenant makes a table that the rules' pattern matches, and drops the oldest.
func (s *soak) newTenant() {
	s.made++
	name := fmt.Sprint("t", s.made)
	s.settle(name)
	s.publishes("tenant_" + name + ".orders")
	key := name + ":order:1"
	s.put(key)
	s.ddl("INSERT INTO tenant_" + name + ".orders VALUES (1, 'x')")
	s.daemon.Load().wait(s.lsn(), soakHang)
	if held := s.held(key); len(held) > 0 {
		s.find("the row of new table tenant_%s.orders was not purged", name)
	}
	if s.tenants = append(s.tenants, name); len(s.tenants) > soakTenants {
		s.ddl("DROP SCHEMA tenant_" + s.tenants[0] + " CASCADE")
		s.tenants = s.tenants[1:]
	}
}

// put stores a key. The test's own connection may have been lost with the server of before.
func (s *soak) put(key string) {
	s.t.Helper()
	eventually(s.t, soakHang, func() bool {
		return s.cache.Do(s.t.Context(), s.cache.B().Set().Key(key).Value("v").Build()).Error() == nil
	}, "Valkey takes a key")
}

func (s *soak) newColumn() {
	s.made++
	name := fmt.Sprint("c", s.made)
	s.ddl("ALTER TABLE products ADD COLUMN " + name + " text")
	if s.columns = append(s.columns, name); len(s.columns) > soakColumns {
		s.ddl("ALTER TABLE products DROP COLUMN " + s.columns[0])
		s.columns = s.columns[1:]
	}
}

// addStandby gives the primary a synchronous standby that has the slot, too. The primary
// stops for a moment while it is copied.
func (s *soak) addStandby() {
	s.t.Helper()
	ctx := s.t.Context()
	require.NoError(s.t, s.primary.Exec(ctx, "app", "SELECT pg_create_physical_replication_slot('heir', true)"))
	s.clusters++
	standby, err := s.primary.StartStandby(ctx, harness.PostgresConfig{
		Dir:      filepath.Join(s.dir, fmt.Sprint("pg", s.clusters)),
		Settings: map[string]string{"primary_slot_name": "heir", "hot_standby_feedback": "on", "sync_replication_slots": "on"},
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, standby.Close()) })
	s.standby = standby
	set(s.t, s.primary, "synchronized_standby_slots", "heir")
	set(s.t, s.primary, "synchronous_standby_names", "*")
	s.relays[0].to(s.primary.Port())
	s.relays[1].to(standby.Port())
}

// failover kills the primary, promotes the standby, and builds another one.
func (s *soak) failover() {
	eventually(s.t, soakHang, func() bool { return inherited(s.t, s.standby) }, "the slot is synchronised")
	former := s.primary
	require.NoError(s.t, former.Kill())
	require.NoError(s.t, s.standby.Exec(s.t.Context(), "app", "SELECT pg_promote()"))
	s.primary = s.standby
	slices.Reverse(s.relays[:])
	s.db.Reset()
	s.untilStreaming()
	require.NoError(s.t, former.Close())
	require.NoError(s.t, os.RemoveAll(filepath.Dir(former.DataDir())))
	s.addStandby()
	s.db.Reset()
	s.untilStreaming()
}
