package scenario

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/scenario/results"
)

// counters are readings of everything that only rises.
type counters struct {
	at                       time.Time
	valkeyHits, valkeyMisses int64
	queries                  map[string]int64 // statements that read, by role
	postgres                 time.Duration    // CPU of PostgreSQL with all its children
	walpurge, walsender      time.Duration
	walpurgeMemory           int64
	calls                    map[string]int
	latency                  map[string]results.Histogram
}

// used is what walpurge used between two readings, in cores and bytes.
type used struct {
	walpurge, walsender float64
	memory              int64
}

func (c counters) until(later counters) used {
	lasted := later.at.Sub(c.at).Seconds()
	return used{
		walpurge:  (later.walpurge - c.walpurge).Seconds() / lasted,
		walsender: (later.walsender - c.walsender).Seconds() / lasted,
		memory:    later.walpurgeMemory,
	}
}

// count reads all counters of a variant.
func (run *running) count(ctx context.Context) (c counters, err error) {
	c = counters{at: time.Now(), calls: map[string]int{}, latency: map[string]results.Histogram{}}
	servers, err := run.env.servers(ctx)
	if err != nil {
		return c, err
	}
	c.postgres, c.queries = servers.cpu, servers.queries
	if run.env.Valkey != nil {
		if c.valkeyHits, c.valkeyMisses, err = valkeyHits(ctx, run.env.Valkey.Addr()); err != nil {
			return c, err
		}
	}
	if run.walpurge == nil {
		return c, nil
	}
	conn, err := run.env.Postgres.Connect(ctx, run.sc.Name)
	if err != nil {
		return c, err
	}
	defer conn.Close(ctx)
	var walsender int
	if err := conn.QueryRow(ctx, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' AND usename = 'walpurge'").Scan(&walsender); err != nil {
		return c, fmt.Errorf("walpurge's walsender: %w", err)
	}
	if c.walsender, err = processCPU(walsender); err != nil {
		return c, err
	}
	if c.walpurge, err = processCPU(run.walpurge.PID()); err != nil {
		return c, err
	}
	if c.walpurgeMemory, err = residentPeak(run.walpurge.PID()); err != nil {
		return c, err
	}
	raw, err := fetch(ctx, "http://"+run.env.WalpurgeAddr+"/metrics")
	if err != nil {
		return c, err
	}
	c.calls, c.latency, err = readMetrics(raw)
	return c, err
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, raw)
	}
	return raw, err
}

// readMetrics reads walpurge's calls of sinks and the histogram of purge latencies, by sink, from
// Prometheus' text format.
func readMetrics(raw []byte) (calls map[string]int, latency map[string]results.Histogram, err error) {
	calls, latency = map[string]int{}, map[string]results.Histogram{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), "{")
		if !ok || (name != "walpurge_sink_requests_total" && name != "walpurge_purge_latency_seconds_bucket") {
			continue
		}
		labels, text, _ := strings.Cut(rest, "} ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("metric %s: %w", lines.Text(), err)
		}
		sink := label(labels, "sink")
		if name == "walpurge_sink_requests_total" {
			calls[sink] += int(value)
			continue
		}
		le, err := strconv.ParseFloat(label(labels, "le"), 64)
		if err != nil {
			return nil, nil, fmt.Errorf("metric %s: %w", lines.Text(), err)
		}
		if !math.IsInf(le, 1) {
			le *= 1000
		}
		latency[sink] = append(latency[sink], results.Bucket{UpToMS: le, Count: int(value)})
	}
	return calls, latency, lines.Err()
}

// label returns the value of a label, which in these metrics holds neither quotes nor backslashes.
func label(labels, name string) string {
	for part := range strings.SplitSeq(labels, ",") {
		if value, ok := strings.CutPrefix(part, name+`="`); ok {
			return strings.TrimSuffix(value, `"`)
		}
	}
	return ""
}

// valkeyHits reads how many reads of keys found one, and how many did not.
func valkeyHits(ctx context.Context, addr string) (hits, misses int64, err error) {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	info, err := client.Do(ctx, client.B().Info().Section("stats").Build()).ToString()
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "keyspace_hits":
			hits, err = strconv.ParseInt(value, 10, 64)
		case "keyspace_misses":
			misses, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("INFO stats: %w", err)
		}
	}
	return hits, misses, nil
}

// tick is the unit of /proc/PID/stat (USER_HZ, 100 on every Linux).
const tick = 10 * time.Millisecond

// stat is the part of /proc/PID/stat that figures are made of (proc_pid_stat(5)).
type stat struct {
	parent int
	// own is the CPU time of the process, reaped that of its children that have ended.
	own, reaped time.Duration
}

// parseStat reads a line of /proc/PID/stat. The name is in parentheses and may itself hold spaces
// and parentheses.
func parseStat(line string) (s stat, err error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 15 {
		return s, fmt.Errorf("%q is no line of /proc/PID/stat", line)
	}
	var n [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return s, err
		}
	}
	return stat{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * tick, reaped: time.Duration(n[3]+n[4]) * tick}, nil
}

func processCPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s, err := parseStat(string(raw))
	return s.own, err
}

// treeCPU is the CPU time of a process and its children, those that have ended included.
func treeCPU(pid int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		s, err := parseStat(string(raw))
		if err != nil {
			return 0, err
		}
		switch strconv.Itoa(pid) {
		case filepath.Base(filepath.Dir(file)):
			sum += s.own + s.reaped
		case strconv.Itoa(s.parent):
			sum += s.own
		}
	}
	return sum, nil
}

// residentPeak is the largest resident size of a process so far, in bytes.
func residentPeak(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}
