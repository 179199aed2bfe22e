package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// hand remembers what it was asked for.
type hand struct {
	asked any
	err   error
	tail  func(ctx context.Context, each func([]byte) error) error
}

func (h *hand) Purge(_ context.Context, r PurgeRequest) (PurgeReport, error) {
	h.asked = r
	return PurgeReport{Items: len(r.Values[invalidation.Key])}, h.err
}

func (h *hand) Replay(_ context.Context, r ReplayRequest) (ReplayReport, error) {
	h.asked = r
	return ReplayReport{}, h.err
}

func (h *hand) Pause(_ context.Context, sink string, paused bool, _ time.Time) error {
	h.asked = map[string]bool{sink: paused}
	return h.err
}

func (h *hand) Parked(_ context.Context, sink string, limit int) ([]Parked, error) {
	h.asked = []any{sink, limit}
	return nil, h.err
}

func (h *hand) Unpark(_ context.Context, r UnparkRequest) (int, error) {
	h.asked = r
	return 3, h.err
}

func (h *hand) Skip(_ context.Context, r SkipRequest) (SkipReport, error) {
	h.asked = r
	return SkipReport{From: "0/1", To: "0/2"}, h.err
}

func (h *hand) Tail(ctx context.Context, sink string, each func([]byte) error) error {
	h.asked = sink
	if h.err != nil {
		return h.err
	}
	if h.tail != nil {
		return h.tail(ctx, each)
	}
	for _, payload := range [][]byte{nil, []byte(`{"a":1}`), []byte(`{"a":2}`)} {
		if err := each(payload); err != nil {
			return err
		}
	}
	return nil
}

// local is a call that changes something, from this machine.
func local(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:7468", "127.0.0.1:40000"
	r.Header.Set("Content-Type", "application/json")
	return r
}

func TestCallsReachTheHand(t *testing.T) {
	for _, c := range []struct {
		r     *http.Request
		asked any
		body  string
	}{
		{local("/api/v1/purge", `{"sink": "cache", "keys": ["a", "b"], "supersede": true}`),
			PurgeRequest{Sink: "cache", Values: invalidation.Values{invalidation.Key: {"a", "b"}}, Supersede: true}, `"items": 2`},
		{local("/api/v1/purge", `{"sink": "cache", "fields": [{"key": "h", "field": "1"}], "generations": ["g"], "base64": {"key": ["/w=="]}, "dry_run": true}`),
			PurgeRequest{Sink: "cache", Values: invalidation.Values{
				invalidation.Key: {"\xff"}, invalidation.Field: {invalidation.JoinField("h", "1")}, invalidation.Generation: {"g"},
			}, DryRun: true}, `"items": 1`},
		{local("/api/v1/replay", `{"from": "0/1"}`), ReplayRequest{From: "0/1"}, `"messages": 0`},
		{local("/api/v1/pause", `{"sink": "edge"}`), map[string]bool{"edge": true}, `"paused": true`},
		{local("/api/v1/resume", `{"sink": "edge"}`), map[string]bool{"edge": false}, `"paused": false`},
		{local("/api/v1/parked", `{"action": "drop", "ids": [7]}`), UnparkRequest{Action: "drop", IDs: []uint64{7}}, `"done": 3`},
		{local("/api/v1/skip", `{"to": "current", "pipeline": "shop"}`), SkipRequest{To: "current", Pipeline: "shop"}, `"to": "0/2"`},
		{httptest.NewRequest(http.MethodGet, "/api/v1/parked?sink=edge", nil), []any{"edge", parkedLimit}, "[]"},
		{httptest.NewRequest(http.MethodGet, "/api/v1/tail?sink=edge", nil), "edge", "{\"a\":1}\n{\"a\":2}\n"},
	} {
		d := &daemon{}
		code, body, _ := do(t, d, c.r)
		require.Equal(t, http.StatusOK, code, body)
		require.Equal(t, c.asked, d.hand.asked)
		require.Contains(t, body, c.body)
	}
}

func TestCallsThatCannotBeMeant(t *testing.T) {
	for _, body := range []string{"", "null x", "{}{}", `{"sink": 1}`, `{"snik": "cache"}`, `[]`,
		`{"sink": "cache", "key_patterns": ["*"]}`, `{"sink": "cache", "everything": true}`, `{"sink": "cache", "base64": {"key_pattern": ["Kg=="]}}`,
		`{"sink": "cache", "base64": {"key": ["?"]}}`, `{"sink": "cache", "fields": [{"key": "h", "filed": "1"}]}`, `{"sink": "cache", "keys": "a"}`} {
		d := &daemon{}
		code, text, h := do(t, d, local("/api/v1/purge", body))
		require.Equal(t, http.StatusBadRequest, code, body)
		require.NotEmpty(t, isError(t, text, h))
		require.Nil(t, d.hand.asked)
	}
	for err, want := range map[error]int{
		&NotFoundError{What: "sink x"}: 404, &BadRequestError{Err: errors.New("no")}: 400, errors.New("the stream is away"): 503,
	} {
		for _, r := range []*http.Request{
			local("/api/v1/purge", "{}"), local("/api/v1/pause", "{}"), httptest.NewRequest(http.MethodGet, "/api/v1/parked", nil),
			httptest.NewRequest(http.MethodGet, "/api/v1/tail", nil),
		} {
			code, text, h := do(t, &daemon{hand: hand{err: err}}, r)
			require.Equal(t, want, code)
			require.Equal(t, err.Error(), isError(t, text, h))
		}
	}
}

func TestCallsAreGuarded(t *testing.T) {
	for _, path := range []string{"purge", "replay", "pause", "resume", "parked", "skip"} {
		foreign := local("/api/v1/"+path, "{}")
		foreign.Host = "shop.example"
		code, _, _ := do(t, &daemon{}, foreign)
		require.Equal(t, http.StatusForbidden, code, path)
		remote := local("/api/v1/"+path, "{}")
		remote.RemoteAddr = "10.0.0.9:1"
		code, _, _ = do(t, &daemon{}, remote)
		require.Equal(t, http.StatusUnauthorized, code, path)
	}
}

// A process that stands by says who leads, whatever it was asked to do.
func TestAStandbySaysWhoLeads(t *testing.T) {
	for _, c := range []struct{ leader, want string }{
		{`{"address": "https://walpurge.example", "host": "a"}`, "this process stands by: https://walpurge.example on host a leads; call that one, with --addr https://walpurge.example"},
		{`{"host": "a"}`, "this process stands by: a process on host a leads; call that one"},
		{`{}`, "this process stands by: slot \"s\" is active for PostgreSQL process 7; call the process that has the slot"},
	} {
		standby := StandbyError{Why: `slot "s" is active for PostgreSQL process 7`}
		require.NoError(t, json.Unmarshal([]byte(c.leader), &standby.Leader))
		d := &daemon{hand: hand{err: fmt.Errorf("not here: %w", &standby)}}
		for _, path := range []string{"/api/v1/purge", "/api/v1/replay", "/api/v1/pause", "/api/v1/resume", "/api/v1/parked", "/api/v1/skip"} {
			r := reload()
			r.URL.Path, r.Body = path, io.NopCloser(strings.NewReader("{}"))
			code, body, _ := do(t, d, r)
			require.Equal(t, 503, code, path)
			var answer struct {
				Error  string
				Leader json.RawMessage
			}
			require.NoError(t, json.Unmarshal([]byte(body), &answer))
			require.Equal(t, "not here: "+c.want, answer.Error)
			if c.leader == "{}" {
				require.Empty(t, answer.Leader)
			} else {
				require.JSONEq(t, c.leader, string(answer.Leader))
			}
		}
	}
}
