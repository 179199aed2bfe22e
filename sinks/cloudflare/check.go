package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// checkTagName is a tag that no application uses.
const checkTagName = "walpurge-check"

// Check reports whether the token is in force, reaches every zone and may purge
// it. The last is asked by purging the tag "walpurge-check": the API has no
// request that asks for this permission and changes nothing. It costs one request
// of the API's budget, and one of the account's for each zone, and blocks for at
// most twenty seconds.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	if err := s.verify(ctx); err != nil {
		return err
	}
	calls := make([]request, len(s.zones.list))
	for z := range calls {
		calls[z].add(0, checkTagName)
	}
	return errors.Join(s.send(ctx, invalidation.Tag, calls)...)
}

// verify asks whether the token is in force (GET /user/tokens/verify). It refuses
// only what the answer says for certain: tokens that belong to an account and not
// to a user are unknown there, and the zones then say more.
func (s *Sink) verify(ctx context.Context) error {
	bounded, cancel := s.Bound(ctx)
	defer cancel()
	resp, err := s.Send(ctx, bounded, httpsink.Request{
		Method: http.MethodGet, URL: s.base + "/user/tokens/verify", TokenFile: s.cfg.APITokenFile, TokenHeader: "Authorization", TokenPrefix: "Bearer ",
	})
	if err != nil {
		return err
	}
	var env struct {
		Success bool `json:"success"`
		Result  struct {
			Status string `json:"status"`
		} `json:"result"`
	}
	if resp.Status != http.StatusOK || json.Unmarshal(resp.Body, &env) != nil || !env.Success {
		return nil
	}
	switch env.Result.Status {
	case "expired", "disabled":
		return sinks.LaneError(fmt.Errorf("cloudflare: the token is %s; write one that is in force into api_token_file", env.Result.Status))
	}
	return nil
}
