package house

import (
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// conditional are metrics that a daemon without limits on its sinks, or without warm sinks, never shows.
var conditional = []string{"budget_remaining", "published_total", "warm_pages_total", "warm_requests_total", "warm_request_seconds", "warm_waiting"}

var familyForm = regexp.MustCompile(`(?m)^# TYPE walpurge_(\S+) `)

// atOnce are commands of pages for operators that a test does not run where a daemon serves:
// what begins with these words takes something away, starts a daemon, or waits for ever.
var atOnce = []string{
	"walpurge run", "walpurge setup", "walpurge status --watch", "walpurge purge", "walpurge parked drop",
	`psql "$ADMIN_URL" -c "SELECT pg_drop_replication_slot`, `psql "$ADMIN_URL" -c "ALTER TABLE`,
}

// runbooks runs the commands of the runbooks against the daemon that runs: each must be one that
// PostgreSQL, the daemon or the system takes. Of a purge it asks for the cost only.
func (s *steps) runbooks() {
	s.Helper()
	ran := map[string]bool{}
	for _, name := range files(s.T, ".md") {
		if !strings.HasPrefix(name, "deploy/runbooks/") {
			continue
		}
		found, _ := blocks(read(s.T, name))
		for _, b := range found {
			if b.lang != "sh" {
				continue
			}
			for line := range strings.Lines(b.text) {
				line = strings.TrimSpace(line)
				purge := strings.HasPrefix(line, "walpurge purge ") && strings.Contains(line, "--dry-run")
				if line == "" || !purge && slices.ContainsFunc(atOnce, func(p string) bool { return strings.HasPrefix(line, p) }) {
					continue
				}
				// The pages are about a CDN; this daemon's sink takes keys.
				line = strings.NewReplacer("--sink edge", "--sink cache", "--tag products", "--key products", "127.0.0.1:7468", s.addr,
					"valkey-cli --scan", `valkey-cli -u "$VALKEY_URL" --scan`).Replace(line)
				if ran[line] {
					continue
				}
				ran[line] = true
				if out, code := s.shell(line); code != 0 {
					s.Errorf("%s: %s\nexit code %d: %s", name, line, code, out)
				}
			}
		}
	}
	require.Greater(s, len(ran), 15)
}

// operations compares docs/operations.md with the daemon that runs: the
// endpoints it lists are there, and its metrics are exactly those exposed.
func (s *steps) operations() {
	s.Helper()
	text := read(s.T, "docs/operations.md")
	endpoints := rows(text, "Endpoint", "Answers")
	require.NotEmpty(s, endpoints)
	for _, cells := range endpoints {
		for _, code := range spans(cells[0]) {
			method, path, found := strings.Cut(code, " ")
			require.True(s, found, code)
			if method == http.MethodGet {
				status := s.get(path).StatusCode
				require.Less(s, status, 400, "%s answers %d", code, status)
			}
		}
	}

	var body []byte
	require.Eventually(s, func() bool {
		var err error
		body, err = io.ReadAll(s.get("/metrics").Body)
		require.NoError(s, err)
		return strings.Contains(string(body), "\nwalpurge_slot_safe_bytes{")
	}, 20*time.Second, 10*time.Millisecond, "the daemon has not looked at the slot")
	exposed := map[string]bool{}
	for _, name := range conditional {
		exposed[name] = true
	}
	for _, m := range familyForm.FindAllStringSubmatch(string(body), -1) {
		exposed[m[1]] = true
	}
	s.named(exposed)
	s.reasons(text)
	documented := map[string]bool{}
	for _, cells := range rows(text, "Metric", "Meaning") {
		for _, name := range spans(cells[0]) {
			name, _, _ = strings.Cut(name, "{")
			documented[name] = true
		}
	}
	require.Equal(s, slices.Sorted(maps.Keys(exposed)), slices.Sorted(maps.Keys(documented)),
		"docs/operations.md: the tables of metrics, against what /metrics shows")
}

// reasons compares the values of labels that the tables of metrics list with the constants.
func (s *steps) reasons(text string) {
	s.Helper()
	meaning := map[string]string{}
	for _, cells := range rows(text, "Metric", "Meaning") {
		for _, name := range spans(cells[0]) {
			name, _, _ = strings.Cut(name, "{")
			meaning[name] = cells[1]
		}
	}
	has := func(metric, value string) {
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(value) + `\b`).MatchString(meaning[metric]) {
			s.Errorf("docs/operations.md: %s lacks %s", metric, value)
		}
	}
	gaps := map[string]bool{}
	for _, reason := range cdc.GapReasons() {
		gaps[string(reason)] = true
		has("gaps_total", string(reason))
	}
	for _, reason := range invalidation.FlushReasons() {
		if !gaps[reason] {
			has("flushes_total", reason)
		}
	}
	for _, class := range sinks.ClassNames() {
		has("sink_requests_total", class)
	}
	for _, state := range enums(sources(s.T))["sinks/delivery.State"] {
		has("sink_state", state)
	}
}
