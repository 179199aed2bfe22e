package cloudflare

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const zone = "023e105f4ecef8ad9ca31a8372d0c353"

// edge is a strict stand-in of the API with a cache behind it. The envelopes
// and the codes 1012, 1014, 971 and 10000 are as the API was seen to give them;
// the code for a tag it does not take is a guess.
type edge struct {
	*httptest.Server

	mu       sync.Mutex
	token    string
	held     map[string]bool // by tag, lower case: tags are compared without case
	requests []*http.Request
	bodies   []string
	fault    http.HandlerFunc // answers instead
}

func startEdge(t testing.TB, token string) *edge {
	e := &edge{token: token, held: map[string]bool{}}
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
	switch {
	case r.URL.RequestURI() != "/client/v4/zones/"+zone+"/purge_cache":
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
	default:
		refuse(w, 400, 1012, `Request must contain one of "purge_everything", "files", "tags", "hosts" or "prefixes"`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Ratelimit", `"default";r=50;t=30`)
	w.Header().Set("Ratelimit-Policy", `"burst";q=100;w=60`)
	_, _ = io.WriteString(w, `{"success":true,"errors":[],"messages":[],"result":{"id":"`+zone+`"}}`)
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
		`{}`:                                     400,
		`x`:                                      400,
	} {
		req, err := http.NewRequest(http.MethodPost, e.URL+"/client/v4/zones/"+zone+"/purge_cache", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer token")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, body)
	}
}
