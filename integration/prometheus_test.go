package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	goyaml "github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// prometheus is a server that scrapes the daemons of a test, each under a pipeline's
// name of its own, and evaluates the expressions of our alerts.
type prometheus struct {
	t    *testing.T
	dir  string
	addr string
	// alerts has the expressions by the alert's name.
	alerts map[string][]string
}

const scraping = `global: {scrape_interval: 500ms, scrape_timeout: 400ms}
scrape_configs:
  - job_name: walpurge
    file_sd_configs: [{files: [%q]}]
    metric_relabel_configs:
      - {source_labels: [drill], target_label: pipeline}
      - {regex: drill, action: labeldrop}
`

func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{t: t, dir: t.TempDir(), addr: freeAddr(t), alerts: map[string][]string{}}
	path, err := exec.LookPath("prometheus")
	if err != nil {
		cache, err := os.UserCacheDir()
		require.NoError(t, err)
		path = filepath.Join(cache, "walpurge", "bin", "prometheus")
		require.FileExists(t, path, "prometheus is missing; run: deploy/dev/deps.sh test")
	}
	config := filepath.Join(p.dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, scraping, filepath.Join(p.dir, "*.json")), 0o644))
	cmd := exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(p.dir, "data"), "--web.listen-address="+p.addr, "--log.level=warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log logs
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", log.tail(20))
		}
	})
	eventually(t, 60*time.Second, func() bool {
		resp, err := http.Get("http://" + p.addr + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "prometheus is ready")

	text, err := os.ReadFile("../deploy/alerts/walpurge.rules.yaml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, goyaml.Unmarshal(text, &rules))
	for _, r := range rules.Groups[0].Rules {
		p.alerts[r.Alert] = append(p.alerts[r.Alert], r.Expr)
	}
	return p
}

// scrape adds a daemon.
func (p *prometheus) scrape(pipeline string, d *daemon) {
	p.t.Helper()
	target := []map[string]any{{"targets": []string{d.addr}, "labels": map[string]string{"drill": pipeline}}}
	text, err := json.Marshal(target)
	require.NoError(p.t, err)
	whole := filepath.Join(p.dir, pipeline+".json")
	require.NoError(p.t, os.WriteFile(whole+".new", text, 0o644))
	require.NoError(p.t, os.Rename(whole+".new", whole))
	eventually(p.t, 60*time.Second, func() bool { return p.has(fmt.Sprintf("walpurge_build_info{pipeline=%q}", pipeline), pipeline) }, "the daemon is scraped")
}

// fires reports that an alert's expression holds for a pipeline at this instant.
func (p *prometheus) fires(alert, pipeline string) bool {
	p.t.Helper()
	require.NotEmpty(p.t, p.alerts[alert], "there is no alert %s", alert)
	for _, expr := range p.alerts[alert] {
		if p.has(expr, pipeline) {
			return true
		}
	}
	return false
}

// has reports that an expression has a result for a pipeline.
func (p *prometheus) has(expr, pipeline string) bool {
	resp, err := http.PostForm("http://"+p.addr+"/api/v1/query", url.Values{"query": {expr}})
	if netErr := (net.Error)(nil); err != nil {
		require.ErrorAs(p.t, err, &netErr)
		return false
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Metric map[string]string }
		}
	}
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(p.t, "success", answer.Status, "%s: %s", expr, answer.Error)
	for _, r := range answer.Data.Result {
		if r.Metric["pipeline"] == pipeline {
			return true
		}
	}
	return false
}
