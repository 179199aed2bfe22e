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
)

// conditional are metrics that a daemon without limits on its sinks never shows.
var conditional = []string{"budget_remaining"}

var familyForm = regexp.MustCompile(`(?m)^# TYPE walpurge_(\S+) `)

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
