package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/status"
)

// daemon is a running walpurge process.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	logs *logs
	done chan struct{}
	err  error
}

// start runs the daemon on the rig's files and waits until it streams.
func (r *rig) start(env ...string) *daemon {
	r.t.Helper()
	d := r.launch(env...)
	d.untilStreaming()
	return d
}

// launch runs the daemon and does not wait.
func (r *rig) launch(env ...string) *daemon {
	r.t.Helper()
	addr := freeAddr(r.t)
	return r.spawn(addr, r.config(addr), env)
}

// spawn runs the daemon on a file that lets it listen on addr.
func (r *rig) spawn(addr, file string, env []string) *daemon {
	r.t.Helper()
	d := &daemon{t: r.t, addr: addr, logs: &logs{}, done: make(chan struct{})}
	d.cmd = command(env, "run", "-c", file)
	d.cmd.Stderr = d.logs
	d.begin()
	return d
}

// begin starts the process, which ends with the test.
func (d *daemon) begin() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Start())
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	d.t.Cleanup(func() {
		if !d.t.Failed() {
			_ = d.cmd.Process.Kill()
			<-d.done
			return
		}
		d.postMortem()
	})
}

// postMortem tells the status, and ends the process so that it tells its goroutines. It may
// be stopped, or stand still.
func (d *daemon) postMortem() {
	client := &http.Client{Timeout: 5 * time.Second}
	_, status := d.getBy(client, "/api/v1/status")
	_, metrics := d.getBy(client, "/metrics")
	_ = d.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-d.done:
	case <-time.After(5 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	d.t.Logf("status: %s\nmetrics:\n%s\ndaemon's log and goroutines, last part:\n%s", status, metrics, d.logs.tail(3000))
}

// otherBinary is the variable with the walpurge to call in the place of the one in the test binary, such as one of another version.
// It wants the build tag failpoints.
const otherBinary = "WALPURGE_TEST_BINARY"

// command is a call of walpurge that dies with the test.
func command(env []string, args ...string) *exec.Cmd {
	program := os.Args[0]
	for _, v := range append(os.Environ(), env...) {
		if other, is := strings.CutPrefix(v, otherBinary+"="); is {
			program = other
		}
	}
	cmd := exec.Command(program, args...)
	// The race detector's runtime sleeps for a second in every exit, so that goroutines
	// may still report (atexit_sleep_ms): for a command that has ended, a second of nothing.
	// What is set outside comes after it, and so counts.
	cmd.Env = append(append([]string{"GORACE=atexit_sleep_ms=20"}, os.Environ()...), asDaemon+"=1")
	cmd.Env = append(cmd.Env, readBy(env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// readBy adds to an environment how backlogs are read: through SQL or by the stream, where WALPURGE_TEST_READER asks
// for one of them. make test-full runs the tests of crashes and the oracle in both ways.
func readBy(env []string) []string {
	way := map[string]string{"sql": "catch_up_always", "stream": "catch_up_never"}[os.Getenv("WALPURGE_TEST_READER")]
	if way == "" {
		return env
	}
	return withFailpoint(env, way)
}

// withFailpoint adds a failpoint to an environment.
func withFailpoint(env []string, name string) []string {
	const variable = "WALPURGE_FAILPOINTS="
	for i, v := range env {
		if strings.HasPrefix(v, variable) {
			out := slices.Clone(env)
			out[i] = v + "," + name
			return out
		}
	}
	return append(slices.Clip(env), variable+name)
}

// untilStreaming waits until the daemon reads the slot and flushes no sink. The probe
// /-/streaming is not asked: it fails from the first heartbeat on while the publication
// lacks what a rule needs, and some tests start with such a publication.
func (d *daemon) untilStreaming() {
	d.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if code, body := d.get("/api/v1/status"); code == http.StatusOK {
			var s status.Status
			require.NoError(d.t, json.Unmarshal([]byte(body), &s))
			if s.Reader.Streams() && !slices.ContainsFunc(s.Sinks, func(s status.Sink) bool { return s.State == "flushing" }) {
				return
			}
		}
		select {
		case <-d.done:
			require.FailNow(d.t, "the daemon ended before it streamed", "%v\n%s", d.err, d.logs.tail(30))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			require.FailNow(d.t, "the daemon does not stream", d.logs.tail(30))
		}
	}
}

// kill ends the process as a crash would.
func (d *daemon) kill() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGKILL))
	<-d.done
}

// term asks for a clean stop and returns how long it took.
func (d *daemon) term() time.Duration {
	d.t.Helper()
	began := time.Now()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.done:
	case <-time.After(30 * time.Second):
		require.FailNow(d.t, "SIGTERM did not end the daemon", d.logs.tail(30))
	}
	require.NoError(d.t, d.err, d.logs.tail(30))
	return time.Since(began)
}

func (d *daemon) get(path string) (int, string) { return d.getBy(http.DefaultClient, path) }

func (d *daemon) getBy(client *http.Client, path string) (int, string) {
	resp, err := client.Get("http://" + d.addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (d *daemon) status() status.Status {
	d.t.Helper()
	code, body := d.get("/api/v1/status")
	require.Equal(d.t, http.StatusOK, code, body)
	var s status.Status
	require.NoError(d.t, json.Unmarshal([]byte(body), &s))
	return s
}

// sink returns one lane's status.
func (d *daemon) sink(name string) status.Sink {
	d.t.Helper()
	for _, s := range d.status().Sinks {
		if s.Name == name {
			return s
		}
	}
	require.FailNow(d.t, "no sink "+name)
	return status.Sink{}
}

// wait blocks until every sink has purged up to the position, and fails when that hangs.
func (d *daemon) wait(lsn string, within time.Duration) {
	d.t.Helper()
	code, body := d.get("/api/v1/wait?timeout=" + max(within, hang).String() + "&lsn=" + url.QueryEscape(lsn))
	require.Equal(d.t, http.StatusOK, code, "%s\n%s", body, d.logs.tail(30))
}

// logged waits until the log holds the text. What the daemon has written arrives through a
// pipe, and so may arrive after what the daemon has answered.
func (d *daemon) logged(text string) {
	d.t.Helper()
	eventually(d.t, 30*time.Second, func() bool { return strings.Contains(d.logs.String(), text) }, "the log says "+text)
}

// metric returns the value of a series of /metrics, as text, or "" if there is
// none. The label of the pipeline need not be named.
func (d *daemon) metric(series string) string {
	d.t.Helper()
	code, body := d.get("/metrics")
	require.Equal(d.t, http.StatusOK, code)
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	labels = strings.Trim(`pipeline="app",`+labels, ",")
	for line := range strings.SplitSeq(body, "\n") {
		has, value, found := strings.Cut(line, " ")
		if found && has == name+"{"+sorted(labels)+"}" {
			return value
		}
	}
	return ""
}

// sorted puts labels into the order in which they are exposed.
func sorted(labels string) string {
	parts := strings.Split(labels, ",")
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// logs keeps what a process writes.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) tail(n int) string {
	lines := strings.Split(l.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
