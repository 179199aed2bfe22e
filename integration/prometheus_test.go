package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	// alerts are those of the file that is shipped.
	alerts []alert
}

type alert struct {
	Alert, Expr string
	Labels      map[string]string
}

const scraping = `global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: walpurge
    file_sd_configs: [{files: [%q]}]
    metric_relabel_configs:
      - {source_labels: [drill], target_label: pipeline}
      - {regex: drill, action: labeldrop}
`

func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{t: t, dir: t.TempDir(), addr: freeAddr(t)}
	config := filepath.Join(p.dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, scraping, filepath.Join(p.dir, "*.json")), 0o644))
	serve(t, p.addr, "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(p.dir, "data"), "--web.listen-address="+p.addr, "--log.level=warn")

	text, err := os.ReadFile("../deploy/alerts/walpurge.rules.yaml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct{ Rules []alert }
	}
	require.NoError(t, goyaml.Unmarshal(text, &rules))
	p.alerts = slices.DeleteFunc(rules.Groups[0].Rules, func(a alert) bool { return a.Alert == "" })
	return p
}

// serve starts a server that deploy/dev/deps.sh puts in place, and waits until it is ready.
func serve(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		cache, err := os.UserCacheDir()
		require.NoError(t, err)
		path = filepath.Join(cache, "walpurge", "bin", program)
		require.FileExists(t, path, "%s is missing; run: deploy/dev/deps.sh test", program)
	}
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log logs
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, log.tail(20))
		}
	})
	eventually(t, 60*time.Second, func() bool {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, program+" is ready")
}

// inhibitRule is one of Alertmanager's: while an alert that the source matches fires, alerts that
// the target matches and whose labels in equal are the same are held back.
type inhibitRule struct {
	Source []string `yaml:"source_matchers"`
	Target []string `yaml:"target_matchers"`
	Equal  []string `yaml:"equal"`
}

// readInhibitRules reads those that are shipped. amtool checks the file, in integration/house.
func readInhibitRules(t *testing.T) []inhibitRule {
	t.Helper()
	text, err := os.ReadFile("../deploy/alerts/alertmanager.yaml")
	require.NoError(t, err)
	var config struct {
		Rules []inhibitRule `yaml:"inhibit_rules"`
	}
	require.NoError(t, goyaml.Unmarshal(text, &config))
	require.NotEmpty(t, config.Rules)
	return config.Rules
}

// matches evaluates matchers of the forms that the file has.
func matches(t *testing.T, matchers []string, labels map[string]string) bool {
	t.Helper()
	for _, m := range matchers {
		parts := regexp.MustCompile(`^(\w+) (=~?) "([^"]*)"$`).FindStringSubmatch(m)
		require.NotNil(t, parts, m)
		if parts[2] == "=" && labels[parts[1]] != parts[3] || !regexp.MustCompile("^(?:"+parts[3]+")$").MatchString(labels[parts[1]]) {
			return false
		}
	}
	return true
}

// pages are the alerts of all that fire which page someone: of severity page, and not held back.
func pages(t *testing.T, rules []inhibitRule, firing []map[string]string) []string {
	t.Helper()
	names := []string{}
	for _, target := range firing {
		held := slices.ContainsFunc(rules, func(r inhibitRule) bool {
			return matches(t, r.Target, target) && slices.ContainsFunc(firing, func(source map[string]string) bool {
				return matches(t, r.Source, source) && !slices.ContainsFunc(r.Equal, func(label string) bool { return source[label] != target[label] })
			})
		})
		if target["severity"] == "page" && !held {
			names = append(names, target["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
func (p *prometheus) fires(name, pipeline string) bool {
	p.t.Helper()
	return slices.ContainsFunc(p.alerts, func(a alert) bool { return a.Alert == name && p.has(a.Expr, pipeline) })
}

// firing are the labels of all alerts whose expressions hold for a pipeline at this instant.
func (p *prometheus) firing(pipeline string) (out []map[string]string) {
	p.t.Helper()
	for _, a := range p.alerts {
		for _, labels := range p.query(a.Expr, pipeline) {
			delete(labels, "__name__")
			labels["alertname"] = a.Alert
			maps.Copy(labels, a.Labels)
			out = append(out, labels)
		}
	}
	return out
}

// has reports that an expression has a result for a pipeline.
func (p *prometheus) has(expr, pipeline string) bool { return len(p.query(expr, pipeline)) > 0 }

// query returns the labels of an expression's results for a pipeline.
func (p *prometheus) query(expr, pipeline string) (out []map[string]string) {
	resp, err := http.PostForm("http://"+p.addr+"/api/v1/query", url.Values{"query": {expr}})
	if netErr := (net.Error)(nil); err != nil {
		require.ErrorAs(p.t, err, &netErr)
		return nil
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
			out = append(out, r.Metric)
		}
	}
	return out
}
