package httpsink

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func tagsOf(values ...string) (batch []invalidation.Invalidation) {
	for _, v := range values {
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
	}
	return batch
}

func TestAdmit(t *testing.T) {
	require.LessOrEqual(t, CallTimeout, 10*time.Second) // short: two constants
	b := NewBase("edge", Config{})
	limits := sinks.Limits{Items: 2}
	limits.ByKind[invalidation.URL] = 1
	require.NoError(t, b.Admit(nil, 2))
	require.NoError(t, b.AdmitOneKind(nil, limits))
	require.NoError(t, b.AdmitOneKind(tagsOf("a", "b"), limits))
	for want, batch := range map[string][]invalidation.Invalidation{
		"edge: 3 invalidations in one call; split it, at most 2 fit":       tagsOf("a", "b", "c"),
		"edge: 2 invalidations in one call; split it, at most 1 fit":       {{Kind: invalidation.URL}, {Kind: invalidation.URL}},
		"edge: tag and url in one call; split it, a call carries one kind": append(tagsOf("a"), invalidation.Invalidation{Kind: invalidation.URL}),
	} {
		err := b.AdmitOneKind(batch, limits)
		require.EqualError(t, err, want)
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Item, class, "the lane splits it")
	}
	b.Close()
	b.Close()
	require.EqualError(t, b.Open(), "edge: the sink is closed")
	require.Error(t, b.Admit(nil, 2))
	require.Error(t, b.AdmitOneKind(nil, limits))
}

// Errors are at the places that values have in the batch; a batch of one value has its error itself.
func TestSendable(t *testing.T) {
	b := NewBase("edge", Config{})
	accepts := func(inv invalidation.Invalidation) error {
		if inv.Value == "" {
			return errors.New("empty")
		}
		return nil
	}
	away := errors.New("away")
	send := func(value string) error {
		if value == "bad" {
			return away
		}
		return nil
	}
	require.NoError(t, b.Select(nil, accepts).Each(2, send))
	require.NoError(t, b.Select(tagsOf("a", "b"), accepts).Each(2, send))
	require.Equal(t, away, b.Select(tagsOf("bad"), accepts).Each(2, send))

	err := b.Select(tagsOf("a", "", "bad"), accepts).Each(2, send)
	var be *sinks.BatchError
	require.ErrorAs(t, err, &be)
	require.Len(t, be.Failed, 2)
	require.EqualError(t, be.Failed[1], "edge: empty")
	require.Equal(t, away, be.Failed[2])
	require.ErrorAs(t, b.Select(tagsOf(""), accepts).Each(2, send), &be)
	require.ErrorAs(t, b.Select(tagsOf("", "a"), accepts).Refused(), &be)
}

func TestSend(t *testing.T) {
	var got http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("no: hunter2"))
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "token")
	b := NewBase("edge", Config{})
	defer b.Close()
	r := Request{Method: http.MethodPost, URL: s.URL, TokenFile: file, TokenHeader: "Authorization", TokenPrefix: "Bearer ", Header: map[string]string{"X-Soft": "1"}, Body: []byte("{}")}
	_, err := b.Send(t.Context(), t.Context(), r)
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Lane, class, "the file is missing")
	require.NoError(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
	resp, err := b.Send(t.Context(), t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, resp.Status)
	require.Equal(t, "no: ***", resp.Excerpt())
	require.Equal(t, []string{"Bearer hunter2", "1", "application/json", "walpurge"}, []string{got.Get("Authorization"), got.Get("X-Soft"), got.Get("Content-Type"), got.Get("User-Agent")})
	r.URL = "http://\x00/hunter2"
	_, err = b.Send(t.Context(), t.Context(), r)
	class, _ = sinks.ClassOf(err)
	require.Equal(t, sinks.Item, class)
	require.NotContains(t, err.Error(), "hunter2")
	s.Close()
	r.URL = s.URL + "/hunter2"
	_, err = b.Send(t.Context(), t.Context(), r)
	require.ErrorContains(t, err, "edge: no answer")
	require.NotContains(t, err.Error(), "hunter2")
}
