//go:build soak

package integration

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// series is what one figure was over time. It is flat when the median of the last quarter of
// the run, and the trend from the second quarter on, lie above the median of the second
// quarter by no more than share of it plus slack.
type series struct {
	name, unit  string
	scale       float64
	share       float64
	slack       float64
	at          []time.Duration
	value       []float64
	q2, q4, max float64
	trend       float64
}

func newSeries() []*series {
	const mib = 1 << 20
	return []*series{
		{name: "process_resident_memory_bytes", unit: "MiB", scale: mib, share: 0.1, slack: 8 * mib},
		{name: "go_memstats_heap_inuse_bytes", unit: "MiB", scale: mib, share: 0.1, slack: 8 * mib},
		{name: "go_goroutines", scale: 1, share: 0.05, slack: 5},
		{name: "process_open_fds", scale: 1, share: 0.05, slack: 5},
		{name: "walpurge_stream_bytes", unit: "MiB", scale: mib, share: 0.1, slack: 8 * mib},
		// A stream frees its disk in blocks of 8 MiB.
		{name: "data_dir_bytes", unit: "MiB", scale: mib, share: 0.1, slack: 24 * mib},
		// The WAL is kept in segments of 16 MiB.
		{name: "walpurge_slot_retained_bytes", unit: "MiB", scale: mib, share: 0.1, slack: 32 * mib},
	}
}

func (s *series) add(at time.Duration, v float64) {
	s.at, s.value = append(s.at, at), append(s.value, v)
}

// quarter returns the values of one quarter of the run, 1 to 4.
func (s *series) quarter(n int, total time.Duration) (out []float64) {
	for i, at := range s.at {
		if from := total / 4 * time.Duration(n-1); at >= from && at < from+total/4 {
			out = append(out, s.value[i])
		}
	}
	return out
}

// median returns 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// slope is the median of the slopes between all pairs of values from a moment on (Theil and
// Sen), per second, which single peaks do not move.
func (s *series) slope(from time.Duration) float64 {
	var slopes []float64
	for i := range s.at {
		for j := i + 1; j < len(s.at) && s.at[i] >= from; j++ {
			slopes = append(slopes, (s.value[j]-s.value[i])/(s.at[j]-s.at[i]).Seconds())
		}
	}
	return median(slopes)
}

// judge says what is not flat, or returns "".
func (s *series) judge(total time.Duration) string {
	second, last := s.quarter(2, total), s.quarter(4, total)
	if len(second) == 0 || len(last) == 0 {
		return s.name + " was not sampled in the second and in the last quarter"
	}
	s.q2, s.q4 = median(second), median(last)
	s.trend = s.slope(total/4) * (total * 3 / 4).Seconds()
	allowed := s.q2*s.share + s.slack
	if s.q4-s.q2 > allowed || s.trend > allowed {
		return fmt.Sprintf("%s is not flat: median %.1f in the second quarter, %.1f in the last, trend %+.1f over both and between; %.1f %s more is allowed",
			s.name, s.q2/s.scale, s.q4/s.scale, s.trend/s.scale, allowed/s.scale, s.unit)
	}
	return ""
}

// samples reads the daemon's figures now and then.
type samples struct {
	s     *soak
	every time.Duration
	all   []*series
	once  sync.Once
	halt  chan struct{}
	done  chan struct{}
}

func newSamples(s *soak, every time.Duration) *samples {
	return &samples{s: s, every: every, all: newSeries(), halt: make(chan struct{}), done: make(chan struct{})}
}

func (m *samples) run() {
	defer close(m.done)
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.halt:
			return
		}
		// A daemon that is being restarted has no figures.
		if code, text := m.s.daemon.Load().get("/metrics"); code == http.StatusOK {
			m.take(figures(text))
		}
	}
}

func (m *samples) take(now map[string]float64) {
	now["data_dir_bytes"] = float64(diskOf(m.s.path("data")))
	at := time.Since(m.s.began)
	for _, s := range m.all {
		s.add(at, now[s.name])
	}
}

func (m *samples) stop() {
	m.once.Do(func() { close(m.halt) })
	<-m.done
}

func (m *samples) judge(total time.Duration) (found []string) {
	for _, s := range m.all {
		if f := s.judge(total); f != "" {
			found = append(found, f)
		}
	}
	return found
}

// figures reads an exposition, by names without labels; of several series the last.
func figures(text string) map[string]float64 {
	out := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		series, value, found := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); found && err == nil {
			name, _, _ := strings.Cut(series, "{")
			out[name] = v
		}
	}
	return out
}

// diskOf is the size of all files below a directory; files may go meanwhile.
func diskOf(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// summarize writes what the run has shown, and prints it.
func (s *soak) summarize() {
	s.samples.stop()
	var b strings.Builder
	fmt.Fprintf(&b, "soak of %s from %s, %s, %d transactions, one sample every %s\n", s.total, s.began.Format(time.DateTime), s.elapsed(), s.commits.Load(), s.samples.every)
	for _, name := range []string{"reload of rules", "reload of sinks", "new table", "new column", "kill of the cache", "failing edge", "lost connections", "failover", "SIGTERM of the daemon", "SIGKILL of the daemon"} {
		fmt.Fprintf(&b, "  %-24s %d\n", name, s.events[name])
	}
	fmt.Fprintf(&b, "%-32s %6s %10s %10s %10s %10s %10s %10s\n", "median (maximum in the last row)", "", "quarter 1", "2", "3", "4", "trend 2-4", "maximum")
	for _, m := range s.samples.all {
		found := m.judge(s.total)
		fmt.Fprintf(&b, "%-32s %6s", m.name, m.unit)
		for n := 1; n <= 4; n++ {
			fmt.Fprintf(&b, " %10.1f", median(m.quarter(n, s.total))/m.scale)
		}
		peak := 0.0
		if len(m.value) > 0 {
			peak = slices.Max(m.value)
		}
		fmt.Fprintf(&b, " %+10.1f %10.1f", m.trend/m.scale, peak/m.scale)
		if found != "" {
			b.WriteString("  NOT FLAT")
		}
		b.WriteString("\n")
	}
	for _, f := range s.findings {
		fmt.Fprintf(&b, "FOUND %s\n", f)
	}
	verdict := "PASS"
	if s.t.Failed() || len(s.findings) > 0 {
		verdict = "FAIL"
	}
	fmt.Fprintln(&b, verdict)
	fmt.Print(b.String())
	if err := os.WriteFile(filepath.Join(*soakOutput, "soak-hours.txt"), []byte(b.String()), 0o644); err != nil {
		s.t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(*soakOutput, "soak-hours.csv"), []byte(s.samples.table()), 0o644); err != nil {
		s.t.Error(err)
	}
}

// table is every sample, one a line.
func (m *samples) table() string {
	var b strings.Builder
	b.WriteString("seconds")
	for _, s := range m.all {
		b.WriteString("," + s.name)
	}
	for i := range m.all[0].at {
		fmt.Fprintf(&b, "\n%.0f", m.all[0].at[i].Seconds())
		for _, s := range m.all {
			fmt.Fprintf(&b, ",%.0f", s.value[i])
		}
	}
	return b.String() + "\n"
}

// TestSoakJudgesFlatness shows series that grow to the judge, and such as do not.
func TestSoakJudgesFlatness(t *testing.T) {
	const total = 400 * time.Second
	for _, tc := range []struct {
		name string
		flat bool
		at   func(second int) float64
	}{
		{"constant", true, func(int) float64 { return 100 }},
		{"peaks", true, func(n int) float64 { return 100 + float64(n%7/6)*1000 }},
		{"growth in the first quarter only", true, func(n int) float64 { return float64(min(n, 100)) }},
		{"within the tolerance", true, func(n int) float64 { return 100 + float64(n)/40 }},
		{"a leak", false, func(n int) float64 { return 100 + float64(n)/10 }},
		{"a leak under peaks", false, func(n int) float64 { return 100 + float64(n)/10 + float64(n%7/6)*1000 }},
		{"a step in the last quarter", false, func(n int) float64 { return 100 + float64(n/320)*50 }},
		{"a leak that is freed at the end", false, func(n int) float64 { return 100 + float64(n%350)/4 }},
	} {
		s := &series{name: tc.name, scale: 1, share: 0.1, slack: 5}
		for n := range int(total.Seconds()) {
			s.add(time.Duration(n)*time.Second, tc.at(n))
		}
		require.Equal(t, tc.flat, s.judge(total) == "", "%s: %s", tc.name, s.judge(total))
	}
	require.NotEmpty(t, (&series{name: "empty"}).judge(total))
}

// relay passes connections on to a server, whose port may change.
type relay struct {
	l    net.Listener
	port atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newRelay(t *testing.T) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{l: l, conns: make(map[net.Conn]struct{})}
	t.Cleanup(func() { l.Close(); r.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *relay) addr() string { return r.l.Addr().String() }

func (r *relay) to(port int) { r.port.Store(int64(port)) }

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.FormatInt(r.port.Load(), 10)))
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns[client] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, client)
		r.mu.Unlock()
	}()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// cut ends every connection.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}
