package fastly

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const serviceID = "SU1Z0isxPaozGVKXdv0eY"

// service is a strict stand-in of the API with a cache behind it, as far as
// Fastly documents both; the fields of error answers are as seen in the wild.
type service struct {
	*httptest.Server

	mu       sync.Mutex
	token    string
	scope    string
	services []string
	hosts    []string        // of URLs that the service answers for; none: all
	held     map[string]bool // keys and URLs without scheme; the value: fresh
	requests []*http.Request
	bodies   []string
	fault    http.HandlerFunc // answers instead
}

func startService(t testing.TB, token string) *service {
	s := &service{token: token, scope: "purge_select purge_all", held: map[string]bool{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.mu.Lock()
		s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
		fault := s.fault
		s.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		s.answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) set(fault http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *service) fill(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.held[v] = true
	}
}

// fresh reports whether an entry is served without asking the origin.
func (s *service) fresh(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[value]
}

// stored reports whether an entry is there, fresh or stale.
func (s *service) stored(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.held[value]
	return found
}

func (s *service) seen() ([]*http.Request, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.bodies
}

func refuse(w http.ResponseWriter, status int, msg, detail string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"msg":%q,"detail":%q}`, msg, detail)
}

func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Fastly-Key") != s.token {
		refuse(w, 401, "Provided credentials are missing or invalid", r.Header.Get("Fastly-Key"))
		return
	}
	w.Header().Set("Fastly-RateLimit-Remaining", "999")
	w.Header().Set("Fastly-RateLimit-Reset", "1763640000")
	path := r.URL.EscapedPath()
	url, isURL := strings.CutPrefix(path, "/purge/")
	all := path == "/service/"+serviceID+"/purge_all"
	may := func(scope string) bool { return slices.Contains(strings.Fields(s.scope), scope) }
	switch {
	case r.Method == http.MethodGet && path == "/tokens/self":
		services, _ := json.Marshal(s.services)
		_, _ = fmt.Fprintf(w, `{"id":"x","services":%s,"scope":%q}`, services, s.scope)
		return
	case r.Method != http.MethodPost:
		refuse(w, 405, "Method not allowed", "")
		return
	case !may("global") && (all && !may("purge_all") || !all && !may("purge_select")):
		refuse(w, 403, "You are not authorized to perform this action", "")
		return
	}
	soft := r.Header.Get("Fastly-Soft-Purge") == "1"
	purge := func(v string) {
		if _, found := s.held[v]; found && soft {
			s.held[v] = false
		} else {
			delete(s.held, v)
		}
	}
	switch {
	case all:
		if soft {
			refuse(w, 400, "Bad request", "no soft purge of everything")
			return
		}
		clear(s.held)
	case isURL:
		host, _, found := strings.Cut(url, "/")
		if !found || host == "" {
			refuse(w, 400, "Bad request", "no URL")
			return
		}
		if len(s.hosts) > 0 && !strings.Contains(strings.Join(s.hosts, " "), host) {
			refuse(w, 404, "Record not found", "Cannot find service for "+host)
			return
		}
		if r.URL.RawQuery != "" {
			url += "?" + r.URL.RawQuery
		}
		purge(url)
	case path == "/service/"+serviceID+"/purge":
		s.batch(w, r, purge)
		return
	default:
		refuse(w, 404, "Record not found", "Cannot load service '"+path+"'")
		return
	}
	_, _ = io.WriteString(w, `{"status":"ok","id":"108-1391560174-974124"}`)
}

// batch purges up to 256 keys named in a JSON object.
func (s *service) batch(w http.ResponseWriter, r *http.Request, purge func(string)) {
	var body map[string][]string
	if r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&body) != nil || len(body) != 1 {
		refuse(w, 400, "Bad request", "no surrogate keys")
		return
	}
	keys := body["surrogate_keys"]
	if len(keys) < 1 || len(keys) > 256 {
		refuse(w, 400, "Bad request", "1 to 256 keys")
		return
	}
	ids := map[string]string{}
	for _, key := range keys {
		if key == "" || len(key) > 1024 || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
			refuse(w, 400, "Bad request", "invalid key "+key)
			return
		}
		ids[key] = "108-1391560174-974124"
	}
	for _, key := range keys {
		purge(key)
	}
	_ = json.NewEncoder(w).Encode(ids)
}

// The stand-in must be worth believing.
func TestServiceIsStrict(t *testing.T) {
	s := startService(t, "token")
	s.hosts = []string{"shop.example"}
	many := func(n int) string {
		b, err := json.Marshal(map[string][]string{"surrogate_keys": strings.Split(strings.Repeat("k ", n-1)+"k", " ")})
		require.NoError(t, err)
		return string(b)
	}
	for _, tc := range []struct {
		method, path, body string
		soft               bool
		status             int
	}{
		{"POST", "/service/" + serviceID + "/purge", `{"surrogate_keys":["a"]}`, true, 200},
		{"POST", "/service/" + serviceID + "/purge", many(256), false, 200},
		{"POST", "/service/" + serviceID + "/purge", many(257), false, 400},
		{"POST", "/service/" + serviceID + "/purge", `{"surrogate_keys":[]}`, false, 400},
		{"POST", "/service/" + serviceID + "/purge", `{"surrogate_keys":["a b"]}`, false, 400},
		{"POST", "/service/" + serviceID + "/purge", `x`, false, 400},
		{"POST", "/service/other/purge", `{"surrogate_keys":["a"]}`, false, 404},
		{"POST", "/service/" + serviceID + "/purge_all", "", false, 200},
		{"POST", "/service/" + serviceID + "/purge_all", "", true, 400},
		{"POST", "/purge/shop.example/a?b", "", true, 200},
		{"POST", "/purge/shop.example", "", false, 400},
		{"POST", "/purge/other.example/", "", false, 404},
		{"GET", "/purge/shop.example/", "", false, 405},
		{"GET", "/tokens/self", "", false, 200},
	} {
		req, err := http.NewRequest(tc.method, s.URL+tc.path, strings.NewReader(tc.body))
		require.NoError(t, err)
		req.Header.Set("Fastly-Key", "token")
		req.Header.Set("Content-Type", "application/json")
		if tc.soft {
			req.Header.Set("Fastly-Soft-Purge", "1")
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, tc.status, resp.StatusCode, "%s %s %.40s", tc.method, tc.path, tc.body)
	}
}
