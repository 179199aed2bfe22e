package fastly

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// checkKeyName is a key that no application uses.
const checkKeyName = "walpurge-check"

// Check reports whether the token is in force, has the scopes that the sink needs
// (GET /tokens/self), and may purge the service, which is asked by purging the key
// "walpurge-check". It costs one request of the account's budget and blocks for at
// most twenty seconds.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, 2*s.Timeout)
	defer cancel()
	if err := s.token(ctx, bounded); err != nil {
		return err
	}
	return s.purge(ctx, bounded, invalidation.Tag, []string{checkKeyName})
}

// token asks what the token is. It refuses only what the answer says for certain.
func (s *Sink) token(caller, bounded context.Context) error {
	resp, err := s.send(caller, bounded, http.MethodGet, "/tokens/self", nil, false)
	if err != nil {
		return err
	}
	var self struct {
		Services []string `json:"services"`
		Scope    string   `json:"scope"`
	}
	if resp.Status == http.StatusUnauthorized {
		return answer{status: resp.Status}.verdict(time.Now())
	}
	if resp.Status != http.StatusOK || json.Unmarshal(resp.Body, &self) != nil || self.Scope == "" {
		return nil
	}
	scopes := strings.Fields(self.Scope)
	may := func(scope string) bool { return slices.Contains(scopes, scope) || slices.Contains(scopes, "global") }
	var errs []error
	if len(self.Services) > 0 && !slices.Contains(self.Services, s.cfg.ServiceID) {
		errs = append(errs, errors.New("fastly: the token is not for this service; add the service to it, or check service_id"))
	}
	if !may("purge_select") {
		errs = append(errs, errors.New("fastly: the token lacks the scope purge_select, without which it purges no tag and no URL"))
	}
	if s.cfg.FlushesAll && !may("purge_all") {
		errs = append(errs, errors.New("fastly: the token lacks the scope purge_all, which `flush: {everything: true}` needs; add it, or flush a tag that every response carries"))
	}
	if len(errs) > 0 {
		return sinks.LaneError(errors.Join(errs...))
	}
	return nil
}
