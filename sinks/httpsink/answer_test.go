package httpsink

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func get(t *testing.T, ctx context.Context, url string) (Answer, error) {
	t.Helper()
	c := NewClient(Config{Idle: 1})
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	require.NoError(t, err)
	return Do(c, req)
}

func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	a, err := get(t, t.Context(), s.URL)
	require.NoError(t, err)
	require.Equal(t, 307, a.Status)
}

func TestAnAnswerThatBreaksOffIsNone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	_, err := get(t, t.Context(), s.URL+"/hunter2?token=hunter2")
	require.ErrorContains(t, err, "no answer")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestErrorsNameNoURL(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	_, err := get(t, t.Context(), s.URL+"/hunter2?token=hunter2")
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), "hunter2")

	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = get(t, over, s.URL+"/hunter2")
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	_, err := ReadSecret(file)
	require.ErrorContains(t, err, "make it readable")
	require.NoError(t, os.WriteFile(file, []byte(" \n"), 0o600))
	_, err = ReadSecret(file)
	require.ErrorContains(t, err, "it is empty")
	require.NoError(t, os.WriteFile(file, []byte("hunter2\r\n"), 0o600))
	secret, err := ReadSecret(file)
	require.NoError(t, err)
	require.Equal(t, "hunter2", secret)
}

// Where one value ends and the next begins is part of the content.
func TestSumOf(t *testing.T) {
	inv := func(k invalidation.Kind, vv ...string) (batch []invalidation.Invalidation) {
		for _, v := range vv {
			batch = append(batch, invalidation.Invalidation{Kind: k, Value: v})
		}
		return batch
	}
	seen := map[Sum]int{}
	for i, b := range [][]invalidation.Invalidation{nil, inv(invalidation.Tag, "a", "b"), inv(invalidation.Tag, "ab"), inv(invalidation.Tag, "b", "a"), inv(invalidation.Key, "a", "b"), inv(invalidation.Tag, "a\x01\x01b")} {
		require.NotContains(t, seen, SumOf(b))
		seen[SumOf(b)] = i
	}
	require.Equal(t, SumOf(inv(invalidation.Tag, "a", "b")), SumOf(inv(invalidation.Tag, "a", "b")))
}

func TestMemoryForgets(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	m := NewMemory[string](time.Minute)
	a := Sum{1}
	_, ok := m.Recall(a, now)
	require.False(t, ok)
	m.Remember(a, "x", now)
	m.Remember(a, "y", now.Add(30*time.Second))
	v, ok := m.Recall(a, now.Add(59*time.Second))
	require.True(t, ok)
	require.Equal(t, "y", v)
	_, ok = m.Recall(a, now.Add(time.Minute))
	require.False(t, ok, "its time runs from the first failure")

	m.Remember(a, "x", now)
	m.Forget(a)
	_, ok = m.Recall(a, now)
	require.False(t, ok)
	for i := range 10 * maxKept {
		m.Remember(Sum{byte(i), byte(i >> 8)}, "x", now)
	}
	require.LessOrEqual(t, len(m.entries), maxKept)
	m.Clear()
	require.Empty(t, m.entries)
}
