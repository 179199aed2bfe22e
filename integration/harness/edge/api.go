package edge

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// Error codes of the API; the package comment says how far each is known.
const (
	codeThrottled       = 971
	codeBadToken        = 1000
	codeNoKind          = 1012
	codeNoArray         = 1014
	codePurgeErrors     = 1016
	codeTagTooLong      = 1100
	codeTagNotPrintable = 1315
	codeGuessed         = 1999
	codeHeaders         = 6003
	codeContentType     = 6105
	codeMalformed       = 6007
	codeNoURI           = 7000
	codeNoRoute         = 7003
	codeAuthentication  = 10000
)

type apiError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Chain holds what the first line of an error leaves out.
	Chain []apiError `json:"error_chain,omitempty"`
}

type envelope struct {
	Success  bool       `json:"success"`
	Errors   []apiError `json:"errors"`
	Messages []string   `json:"messages"`
	Result   *result    `json:"result"`
}

type result struct {
	ID string `json:"id"`
}

// maxRequest bounds a body: 500 URLs of a generous length.
const maxRequest = 4 << 20

// call is one request to the API.
type call struct {
	edge *Edge
	w    http.ResponseWriter
	r    *http.Request
	seq  uint64
	zone *zoneState
	rest left
}

func (e *Edge) serveAPI(w http.ResponseWriter, r *http.Request) {
	now := e.cfg.Clock()
	c := &call{edge: e, w: w, r: r, rest: left{name: "default", remaining: apiRequests, quota: apiRequests, window: apiWindow}}
	ray := fmt.Sprintf("%016x", rand.Uint64())
	w.Header().Set("CF-Ray", ray)
	if r.Method == http.MethodGet && r.URL.Path == apiPrefix+"/user/tokens/verify" {
		c.seq = e.log.add(Request{Ray: ray, At: now})
		c.verify(now)
		return
	}
	id, routed := zoneOf(r)
	if routed {
		c.zone = e.zones[id]
	}
	entry := Request{Ray: ray, At: now}
	if c.zone != nil {
		entry.Zone = id
	}
	c.seq = e.log.add(entry)
	if r := c.handle(now); r != nil {
		c.reply(r.status, envelope{Errors: r.errors, Messages: []string{}})
	}
}

// zoneOf returns the zone's id of a purge request.
func zoneOf(r *http.Request) (string, bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), apiPrefix+"/zones/")
	if !ok || r.Method != http.MethodPost {
		return "", false
	}
	return strings.CutSuffix(rest, "/purge_cache")
}

// handle answers the call, or returns the refusal to answer with.
func (c *call) handle(now time.Time) *refusal {
	if c.zone == nil {
		return &refusal{http.StatusNotFound, []apiError{
			{Code: codeNoRoute, Message: "Could not route to " + c.r.URL.Path + ", perhaps your object identifier is invalid?"},
			{Code: codeNoURI, Message: "No route for that URI"},
		}}
	}
	token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !ok || !c.zone.account.tokens[token] {
		return refuse(http.StatusForbidden, codeAuthentication, "Authentication error")
	}
	wait, ok, rest := c.edge.limits.take(token, c.zone.account.limits.apiQuota(), now)
	c.rest = scarcer(rest, c.zone.account.left(now))
	if !ok {
		return c.throttle(wait)
	}
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &refusal{http.StatusBadRequest, []apiError{{
			Code: codeHeaders, Message: "Invalid request headers",
			Chain: []apiError{{Code: codeContentType, Message: "the Content-Type is not application/json"}},
		}}}
	}
	p, refused := parsePurge(http.MaxBytesReader(c.w, c.r.Body, maxRequest), c.zone.account.limits)
	c.edge.log.update(c.seq, func(r *Request) { r.Kind, r.Values = p.kind, p.values })
	if refused != nil {
		return refused
	}
	if refused := p.check(c.zone.Zone); refused != nil {
		return refused
	}
	fault := c.edge.faults.next()
	c.edge.log.update(c.seq, func(r *Request) { r.Fault = fault.Kind })
	if fault.Kind != "" && fault.Kind != Timeout {
		return c.fail(fault)
	}
	wait, ok = c.zone.account.take(p, now)
	c.rest = scarcer(rest, c.zone.account.left(now))
	if !ok {
		return c.throttle(wait)
	}
	c.edge.later(c.seq, p, c.zone.Zone, func() {})
	if fault.Kind == Timeout {
		c.hold(fault.Wait)
	}
	c.reply(http.StatusOK, envelope{Success: true, Errors: []apiError{}, Messages: []string{}, Result: &result{c.zone.ID}})
	return nil
}

func (c *call) throttle(wait time.Duration) *refusal {
	retryAfter(c.w.Header(), wait)
	return refuse(http.StatusTooManyRequests, codeThrottled, "Please wait and consider throttling your request speed")
}

func (c *call) reply(status int, body envelope) {
	c.edge.log.update(c.seq, func(r *Request) {
		r.Status = status
		if len(body.Errors) > 0 {
			r.Code = body.Errors[0].Code
		}
	})
	c.rest.write(c.w.Header())
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	// A client that has gone is no error of the edge.
	_ = json.NewEncoder(c.w).Encode(body)
}

// fail meets a fault that leaves the cache alone.
func (c *call) fail(f Fault) *refusal {
	switch f.Kind {
	case ServerError:
		c.edge.log.update(c.seq, func(r *Request) { r.Status = http.StatusBadGateway })
		c.rest.write(c.w.Header())
		c.w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		c.w.WriteHeader(http.StatusBadGateway)
		_, _ = c.w.Write([]byte("<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"))
		return nil
	case Throttled:
		return c.throttle(f.Wait)
	case Refused:
		return refuse(http.StatusOK, codePurgeErrors, "One or more cache purge errors")
	}
	c.reset()
	return nil
}

// hold leaves the client without an answer, then cuts the connection.
func (c *call) hold(limit time.Duration) {
	var over <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-c.r.Context().Done():
	case <-c.edge.closed:
	case <-over:
	}
	panic(http.ErrAbortHandler)
}

// reset closes the connection with a TCP reset where there is one to reset.
func (c *call) reset() {
	if conn, _, err := http.NewResponseController(c.w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			// Discarding unsent data is what makes the close a reset.
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}
