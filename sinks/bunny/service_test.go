package bunny

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const zoneID = "4711"

// service is a strict stand-in for the API with one pull zone. Its entries are known by what a purge
// has to match: the CDN-Tag header of a response, or its URL.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	token    string
	held     map[string]bool
	zone     map[string]any
	override http.HandlerFunc
	bodies   []string
	queries  []url.Values
}

func startService(t testing.TB, token string) *service {
	s := &service{token: token, held: map[string]bool{}, zone: map[string]any{"Id": 4711, "Name": "shop"}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server notices a client that is gone only once the body is read.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		override := s.override
		s.mu.Unlock()
		if override != nil {
			override(w, r)
			return
		}
		s.answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) set(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override = h
}

func (s *service) fill(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.held[v] = true
	}
}

func (s *service) has(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[value]
}

func (s *service) seen() ([]string, []url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies, s.queries
}

// drop removes what a pattern with wildcards matches.
func (s *service) drop(pattern string) {
	form := regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `$`)
	for v := range s.held {
		if form.MatchString(v) {
			delete(s.held, v)
		}
	}
}

func refuse(w http.ResponseWriter, status int, key, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"ErrorKey":%q,"Field":"","Message":%q}`, key, message)
}

func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("AccessKey") != s.token {
		refuse(w, 401, "unauthorized", "Authorization has been denied for "+r.Header.Get("AccessKey"))
		return
	}
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/pullzone/"+zoneID:
		_ = json.NewEncoder(w).Encode(s.zone)
	case r.Method != http.MethodPost:
		refuse(w, 405, "method", "Method not allowed")
	case r.URL.Path == "/pullzone/"+zoneID+"/purgeCache":
		s.bodies = append(s.bodies, string(body))
		var said map[string]*string
		if len(body) > 0 && (r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &said) != nil || len(said) != 1 || said["CacheTag"] == nil) {
			refuse(w, 400, "validation", "invalid body "+string(body))
			return
		}
		if tag := said["CacheTag"]; tag != nil && *tag != "" {
			s.drop(*tag)
		} else {
			clear(s.held) // no tag, or an empty one: the whole zone
		}
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/purge":
		q := r.URL.Query()
		s.queries = append(s.queries, q)
		u, err := url.Parse(q.Get("url"))
		if len(body) > 0 || err != nil || u.Host == "" {
			refuse(w, 400, "validation", "invalid url "+q.Get("url"))
			return
		}
		pattern := q.Get("url")
		ignores, _ := s.zone["IgnoreQueryStrings"].(bool)
		if strings.HasSuffix(u.Path, "/") && (q.Get("exactPath") != "true" || ignores) {
			pattern += "*"
		}
		s.drop(pattern)
	default:
		refuse(w, 404, "pullzone.not_found", "The requested resource was not found")
	}
}

// The stand-in must be worth believing.
func TestServiceIsStrict(t *testing.T) {
	s := startService(t, "token")
	for _, tc := range []struct {
		method, path, body string
		status             int
		left               []string
	}{
		{"POST", "/pullzone/4711/purgeCache", `{"CacheTag":"a"}`, 204, []string{"ab", "https://h/a/", "https://h/a/b"}},
		{"POST", "/pullzone/4711/purgeCache", `{"CacheTag":"a*"}`, 204, []string{"https://h/a/", "https://h/a/b"}},
		{"POST", "/pullzone/4711/purgeCache", `{"CacheTag":""}`, 204, nil},
		{"POST", "/pullzone/4711/purgeCache", ``, 204, nil},
		{"POST", "/pullzone/4711/purgeCache", `{"CacheTags":["a"]}`, 400, []string{"a", "ab", "https://h/a/", "https://h/a/b"}},
		{"POST", "/pullzone/12/purgeCache", `{"CacheTag":"a"}`, 404, []string{"a", "ab", "https://h/a/", "https://h/a/b"}},
		{"POST", "/purge?url=https%3A%2F%2Fh%2Fa%2F", ``, 200, []string{"a", "ab"}},
		{"POST", "/purge?exactPath=true&url=https%3A%2F%2Fh%2Fa%2F", ``, 200, []string{"a", "ab", "https://h/a/b"}},
		{"POST", "/purge?url=https%3A%2F%2Fh%2F*", ``, 200, []string{"a", "ab"}},
		{"POST", "/purge?url=nowhere", ``, 400, []string{"a", "ab", "https://h/a/", "https://h/a/b"}},
		{"GET", "/purge?url=https%3A%2F%2Fh%2Fa%2F", ``, 405, []string{"a", "ab", "https://h/a/", "https://h/a/b"}},
	} {
		all := []string{"a", "ab", "https://h/a/", "https://h/a/b"}
		s.fill(all...)
		req, err := http.NewRequest(tc.method, s.URL+tc.path, strings.NewReader(tc.body))
		require.NoError(t, err)
		req.Header.Set("AccessKey", "token")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, tc.status, resp.StatusCode, "%s %s %s", tc.method, tc.path, tc.body)
		var left []string
		for _, v := range all {
			if s.has(v) {
				left = append(left, v)
			}
		}
		require.Equal(t, tc.left, left, "%s %s %s", tc.method, tc.path, tc.body)
	}
}
