package house

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

const alertsDir = "deploy/alerts"

// program finds one that deploy/dev/deps.sh puts in place.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	path := filepath.Join(cache, "walpurge", "bin", name)
	require.FileExists(t, path, "%s is missing; run: deploy/dev/deps.sh test", name)
	return path
}

// The rules are rules, and every case of walpurge_test.yaml comes out as it says.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	tool := program(t, "promtool")
	cases, err := filepath.Glob(filepath.Join(top, alertsDir, "*_test.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	for _, args := range [][]string{{"check", "rules", "walpurge.rules.yaml"}, {"test", "rules"}} {
		if args[0] == "test" {
			for _, c := range cases {
				args = append(args, filepath.Base(c))
			}
		}
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = filepath.Join(top, alertsDir)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "promtool %s:\n%s", strings.Join(args, " "), out)
	}
}

// Alertmanager takes its configuration. What it does with it, the on-call drill shows.
func TestAlertmanagerConfig(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), program(t, "amtool"), "check-config", filepath.Join(top, alertsDir, "alertmanager.yaml")).CombinedOutput()
	require.NoError(t, err, string(out))
}

// One cause raises one page: what leaves a cache stale pages by walpurge_fresh alone. Besides,
// only dangers that it does not show page.
func TestWhatPages(t *testing.T) {
	var r rulesFile
	require.NoError(t, yaml.Unmarshal([]byte(read(t, alertsDir+"/walpurge.rules.yaml")), &r))
	pages := map[string]string{}
	for _, rule := range r.Groups[0].Rules {
		if rule.Labels["severity"] == "page" {
			pages[rule.Alert] = rule.For
		}
	}
	require.Equal(t, map[string]string{"WalpurgeStale": "1m", "WalpurgeDown": "2m", "WalpurgeSlotNearLimit": "1m"}, pages)
}

// rulesFile and casesFile are what is looked at of Prometheus's formats.
type rulesFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

type casesFile struct {
	Tests []struct {
		AlertRuleTest []struct {
			Alertname string `yaml:"alertname"`
			ExpAlerts []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// Every alert has a case that fires, one that stays silent, and a page that says
// what to do, which it links to; and there is no page without an alert.
func TestEveryAlertIsTestedAndExplained(t *testing.T) {
	var r rulesFile
	require.NoError(t, yaml.Unmarshal([]byte(read(t, alertsDir+"/walpurge.rules.yaml")), &r))
	alerts := map[string]bool{}
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			if rule.Alert == "" {
				continue
			}
			alerts[rule.Alert] = true
			require.Contains(t, []string{"page", "ticket", "note"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
			require.True(t, strings.HasSuffix(rule.Annotations["runbook_url"], "/deploy/runbooks/"+rule.Alert+".md"), rule.Alert)
		}
	}
	require.NotEmpty(t, alerts)

	fires, silent := map[string]bool{}, map[string]bool{}
	var c casesFile
	require.NoError(t, yaml.Unmarshal([]byte(read(t, alertsDir+"/walpurge_test.yaml")), &c))
	for _, test := range c.Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				silent[a.Alertname] = true
			}
		}
	}
	require.Equal(t, alerts, fires, "alerts, and those with a case that fires")
	require.Equal(t, alerts, silent, "alerts, and those with a case that stays silent")

	pages := map[string]bool{}
	for _, name := range files(t, ".md") {
		if rest, found := strings.CutPrefix(name, "deploy/runbooks/"); found && rest != "README.md" {
			pages[strings.TrimSuffix(rest, ".md")] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(pages)), "alerts, and pages in deploy/runbooks")
}

// Every page says what the alert means, why it comes, what to do and when it is
// over, in that order.
func TestRunbooksHaveOneForm(t *testing.T) {
	for _, name := range files(t, ".md") {
		if !strings.HasPrefix(name, "deploy/runbooks/Walpurge") {
			continue
		}
		text := read(t, name)
		require.True(t, strings.HasPrefix(text, "# "+strings.TrimSuffix(filepath.Base(name), ".md")+"\n"), name)
		_, prose := blocks(text)
		var headings []string
		for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(prose, -1) {
			headings = append(headings, m[1])
		}
		require.Equal(t, []string{"Likely causes", "What to do", "Over when"}, headings, name)
	}
}

var metricForm = regexp.MustCompile(`\bwalpurge_([a-z_]+)`)

// named compares the metrics that alerts and dashboards name with those that
// the daemon has.
func (s *steps) named(exposed map[string]bool) {
	s.Helper()
	for _, name := range files(s.T, ".rules.yaml", ".json") {
		if !strings.HasPrefix(name, "deploy/") || filepath.Base(name) == "results.json" { // what a scenario has measured
			continue
		}
		for _, m := range metricForm.FindAllStringSubmatch(read(s.T, name), -1) {
			metric := m[1]
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(metric, part); cut && exposed[base] {
					metric = base
				}
			}
			require.True(s, exposed[metric], "%s names walpurge_%s, which the daemon does not have", name, m[1])
		}
	}
}
