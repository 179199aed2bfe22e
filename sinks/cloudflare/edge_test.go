package cloudflare

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	zoneID    = "023e105f4ecef8ad9ca31a8372d0c353"
	otherZone = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// edge is a strict stand-in of the API with a cache behind it. The envelopes
// and the codes 1012, 1014, 971 and 10000 are as the API was seen to give them;
// the code for a tag it does not take is a guess.
type edge struct {
	*httptest.Server

	mu       sync.Mutex
	token    string
	held     map[string]bool // by tag, lower case: tags are compared without case; or by URL
	requests []*http.Request
	bodies   []string
	fault    http.HandlerFunc // answers instead
	status   string           // of the token; empty: it belongs to an account
	policy   [2]string        // what the rate headers say
	broken   map[string]int   // status of zones that refuse
}

func startEdge(t testing.TB, token string) *edge {
	e := &edge{token: token, held: map[string]bool{}, status: "active", broken: map[string]int{},
		policy: [2]string{`"default";r=50;t=30`, `"burst";q=100;w=60`}}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		e.mu.Lock()
		e.requests, e.bodies = append(e.requests, r), append(e.bodies, string(body))
		fault := e.fault
		e.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		e.purge(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *edge) set(fault http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = fault
}

func (e *edge) fill(tags ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, tag := range tags {
		e.held[strings.ToLower(tag)] = true
	}
}

func (e *edge) holds(tag string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[strings.ToLower(tag)]
}

func (e *edge) seen() ([]*http.Request, []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests, e.bodies
}

func refuse(w http.ResponseWriter, status int, code int64, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"success":false,"errors":[{"code":%d,"message":%q}],"messages":[],"result":null}`, code, message)
}

func (e *edge) purge(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	zone := strings.TrimSuffix(strings.TrimPrefix(r.URL.RequestURI(), "/client/v4/zones/"), "/purge_cache")
	switch {
	case r.Method == http.MethodGet && r.URL.RequestURI() == "/client/v4/user/tokens/verify":
		e.verify(w, r)
		return
	case zone != zoneID && zone != otherZone:
		refuse(w, 404, 7003, "Could not route to "+r.URL.Path+", perhaps your object identifier is invalid?")
		return
	case r.Method != http.MethodPost:
		refuse(w, 405, 10405, "Method not allowed for this authentication scheme")
		return
	case r.Header.Get("Authorization") != "Bearer "+e.token:
		refuse(w, 403, 10000, "Authentication error: "+r.Header.Get("Authorization"))
		return
	case r.Header.Get("Content-Type") != "application/json":
		refuse(w, 400, 1012, "Content-Type must be application/json")
		return
	}
	if status := e.broken[zone]; status != 0 {
		refuse(w, status, map[int]int64{403: 10000, 429: 971, 400: 1012, 500: 1}[status], "broken")
		return
	}
	var body map[string]json.RawMessage
	if json.NewDecoder(r.Body).Decode(&body) != nil || len(body) != 1 {
		refuse(w, 400, 1012, `Request must contain one of "purge_everything", "files", "tags", "hosts" or "prefixes"`)
		return
	}
	switch {
	case string(body["purge_everything"]) == "true":
		clear(e.held)
	case body["tags"] != nil:
		var tags []string
		if json.Unmarshal(body["tags"], &tags) != nil {
			refuse(w, 400, 1014, `"tags" must be an array`)
			return
		}
		if len(tags) < 1 || len(tags) > 100 {
			refuse(w, 400, 1094, "You may only purge 1 to 100 items per request")
			return
		}
		for _, tag := range tags {
			if len(tag) < 1 || len(tag) > 1024 || strings.ContainsFunc(tag, func(c rune) bool { return c <= ' ' || c > '~' || c == ',' }) {
				refuse(w, 400, 1094, "Invalid tag "+tag)
				return
			}
		}
		for _, tag := range tags {
			delete(e.held, strings.ToLower(tag))
		}
	case body["files"] != nil:
		var files []string
		if json.Unmarshal(body["files"], &files) != nil || len(files) < 1 || len(files) > 100 {
			refuse(w, 400, 1014, `"files" must be an array`)
			return
		}
		for _, file := range files {
			u, err := url.Parse(file)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsAny(file, "#* ") {
				refuse(w, 400, 1094, "Invalid URL "+file)
				return
			}
		}
		for _, file := range files {
			delete(e.held, strings.ToLower(file))
		}
	case body["prefixes"] != nil:
		var prefixes []string
		if json.Unmarshal(body["prefixes"], &prefixes) != nil || len(prefixes) < 1 || len(prefixes) > 100 {
			refuse(w, 400, 1014, `"prefixes" must be an array`)
			return
		}
		for _, prefix := range prefixes {
			if prefix == "" || prefix[0] == '/' || strings.Contains(prefix, "://") || strings.ContainsAny(prefix, "?#* ") || strings.Count(prefix, "/") > 31 {
				refuse(w, 400, 1094, "Invalid prefix "+prefix)
				return
			}
		}
		for _, prefix := range prefixes {
			for held := range e.held {
				if _, rest, _ := strings.Cut(held, "://"); strings.HasPrefix(rest, prefix) {
					delete(e.held, held)
				}
			}
		}
	default:
		refuse(w, 400, 1012, `Request must contain one of "purge_everything", "files", "tags", "hosts" or "prefixes"`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Ratelimit", e.policy[0])
	w.Header().Set("Ratelimit-Policy", e.policy[1])
	_, _ = io.WriteString(w, `{"success":true,"errors":[],"messages":[],"result":{"id":"`+zone+`"}}`)
}

// verify answers as the API does: tokens that it does not know are 401 and 1000.
func (e *edge) verify(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+e.token || e.status == "" {
		refuse(w, 401, 1000, "Invalid API Token")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"success":true,"errors":[],"messages":[],"result":{"id":"%s","status":%q}}`, zoneID, e.status)
}

// purges lists what was sent to zones, in the order of arrival.
func (e *edge) purges() (zones, bodies []string) {
	requests, all := e.seen()
	for i, r := range requests {
		if r.Method == http.MethodPost {
			zones, bodies = append(zones, strings.Split(r.URL.Path, "/")[4]), append(bodies, all[i])
		}
	}
	return zones, bodies
}

// The stand-in must be worth believing.
func TestEdgeIsStrict(t *testing.T) {
	e := startEdge(t, "token")
	for body, status := range map[string]int{
		`{"tags":["a"]}`:                         200,
		`{"purge_everything":true}`:              200,
		`{"purge_everything":false}`:             400,
		`{"tags":["a"],"purge_everything":true}`: 400,
		`{"tags":"a"}`:                           400,
		`{"tags":[]}`:                            400,
		`{"tags":["a b"]}`:                       400,
		`{"files":["https://shop.example/a"]}`:   200,
		`{"files":["shop.example/a"]}`:           400,
		`{"files":["https://shop.example/*"]}`:   400,
		`{"files":"https://shop.example/"}`:      400,
		`{"prefixes":["shop.example/a"]}`:        200,
		`{"prefixes":["https://shop.example/"]}`: 400,
		`{"prefixes":["shop.example/?a"]}`:       400,
		`{}`:                                     400,
		`x`:                                      400,
	} {
		req, err := http.NewRequest(http.MethodPost, e.URL+"/client/v4/zones/"+zoneID+"/purge_cache", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer token")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, body)
	}
}
