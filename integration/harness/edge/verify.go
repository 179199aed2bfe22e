package edge

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// verify answers GET /user/tokens/verify, which tells of a token that it knows
// whether it is in force.
func (c *call) verify(now time.Time) {
	token, _ := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	state, known := c.edge.tokens[token]
	if !known {
		state.quota = apiRequests
	}
	wait, ok, rest := c.edge.limits.take(token, state.quota, now)
	c.rest = rest
	switch {
	case !ok:
		r := c.throttle(wait)
		c.reply(r.status, envelope{Errors: r.errors, Messages: []string{}})
	case !known:
		c.reply(http.StatusUnauthorized, envelope{Errors: []apiError{{Code: codeBadToken, Message: "Invalid API Token"}}, Messages: []string{}})
	default:
		c.edge.log.update(c.seq, func(r *Request) { r.Status = http.StatusOK })
		c.rest.write(c.w.Header())
		c.w.Header().Set("Content-Type", "application/json")
		// A client that has gone is no error of the edge.
		_ = json.NewEncoder(c.w).Encode(map[string]any{
			"success": true, "errors": []apiError{}, "messages": []apiError{},
			"result": map[string]string{"id": strings.Repeat("0", 32), "status": state.status},
		})
	}
}
