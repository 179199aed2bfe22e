package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario"
)

// prometheus is a server that scrapes the application and walpurge once a second.
type prometheus struct {
	url    string
	client *http.Client
}

const scraping = `global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - {job_name: dashboard, static_configs: [{targets: [%q]}]}
  - {job_name: walpurge, static_configs: [{targets: [%q]}]}
`

// findPrometheus returns the program in PATH, or the one that deploy/dev/deps.sh has put into the cache directory.
func findPrometheus() (string, error) {
	if path, err := exec.LookPath("prometheus"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "walpurge", "bin", "prometheus")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no prometheus in PATH or at %s: run `deploy/dev/deps.sh scenario` or `apt-get install prometheus`", path)
	}
	return path, nil
}

// startPrometheus starts the server and returns when it is ready.
func startPrometheus(ctx context.Context, env *scenario.Env, client *http.Client, application string) (*prometheus, error) {
	program, err := findPrometheus()
	if err != nil {
		return nil, err
	}
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	config := filepath.Join(env.Dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, scraping, application, env.WalpurgeAddr), 0o644); err != nil {
		return nil, err
	}
	p := &prometheus{url: "http://" + addr, client: client}
	server, err := harness.StartProgram(ctx, harness.ProgramConfig{
		Name: "prometheus", Path: program, Dir: env.Dir, Nice: scenario.Nice,
		Args:  []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(env.Dir, "prometheus"), "--web.listen-address=" + addr, "--log.level=warn"},
		Ready: func(ctx context.Context) error { _, err := p.get(ctx, "/-/ready"); return err },
	})
	if err != nil {
		return nil, err
	}
	env.Group.Add("Prometheus", server.Close)
	return p, nil
}

func (p *prometheus) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, raw)
	}
	return raw, err
}

// sample is one result of a query.
type sample struct {
	Metric map[string]string
	Value  float64
}

// query evaluates an expression as of now. Values that are not numbers, such as 0/0, are left out.
func (p *prometheus) query(ctx context.Context, expr string) (out []sample, err error) {
	raw, err := p.get(ctx, "/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	for _, r := range answer.Data.Result {
		text, ok := r.Value[1].(string)
		if !ok {
			return nil, fmt.Errorf("%s: %v is not a value", expr, r.Value)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		if !math.IsNaN(value) {
			out = append(out, sample{r.Metric, value})
		}
	}
	return out, nil
}

// sum evaluates an expression with one result; 0 if it has none.
func (p *prometheus) sum(ctx context.Context, expr string) (float64, error) {
	found, err := p.query(ctx, expr)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].Value, nil
}

// panel is a query of a Grafana dashboard, with the title of the panel that shows it.
type panel struct{ title, expr string }

// readPanels reads the queries of a dashboard, with its variables replaced as Grafana does.
func readPanels(file string) (out []panel, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			out = append(out, panel{p.Title, strings.NewReplacer("$__rate_interval", "1m", "$pipeline", "dashboard").Replace(t.Expr)})
		}
	}
	if len(out) == 0 {
		return nil, errors.New(file + " has no query")
	}
	return out, nil
}

// empty returns the titles of the panels with a query that has no result.
func (p *prometheus) empty(ctx context.Context, panels []panel) (out []string, err error) {
	for _, panel := range panels {
		found, err := p.query(ctx, panel.expr)
		if err != nil {
			return nil, fmt.Errorf("panel %s: %w", panel.title, err)
		}
		if len(found) == 0 {
			out = append(out, panel.title)
		}
	}
	return out, nil
}
