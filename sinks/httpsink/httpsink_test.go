package httpsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/sinks"
)

func TestClientFollowsNothingAndReadsNoEndlessAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", MaxBody+100))
	}))
	defer server.Close()
	client := NewClient(Config{Idle: 1})
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/away": http.StatusTemporaryRedirect, "/": http.StatusOK} {
		resp, err := client.Get(server.URL + path)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.LessOrEqual(t, len(b), MaxBody)
	}
}

func TestUnansweredHidesTheURL(t *testing.T) {
	refused := &url.Error{Op: "Post", URL: "https://hunter2@host/", Err: errors.New("connection refused")}
	require.EqualError(t, Unanswered(t.Context(), refused, time.Second), "no answer: connection refused")
	late := &url.Error{Op: "Post", URL: "https://hunter2@host/", Err: context.DeadlineExceeded}
	err := Unanswered(t.Context(), fmt.Errorf("sent: %w", late), time.Second)
	require.EqualError(t, err, "no answer within 1s: context deadline exceeded")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Unanswered(ctx, refused, time.Second), context.Canceled)
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]string{
		"": "https://api.example/v4", "http://127.0.0.1:1/": "http://127.0.0.1:1", "https://proxy.example/cf//": "https://proxy.example/cf",
	} {
		u, err := BaseURL(in, "https://api.example/v4", false)
		require.NoError(t, err)
		require.Equal(t, want, u.String())
	}
	for _, in := range []string{"hunter2", "hunter2.example/%zz", "https://u:hunter2@api.example", "ftp://hunter2", "https://api.example?hunter2"} {
		_, err := BaseURL(in, "https://api.example/v4", true)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for in, refused := range map[string]bool{"http://proxy.example": true, "http://10.0.0.5:8080": true, "http://localhost:1": false, "http://[::1]:1": false, "http://127.9.9.9": false, "http://127.0.0.1.example": true} {
		_, err := BaseURL(in, "https://api.example/v4", false)
		require.Equal(t, refused, err != nil, in)
		_, err = BaseURL(in, "https://api.example/v4", true)
		require.NoError(t, err, in)
	}
}

func TestReadToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for says, text := range map[string]string{
		"is empty": " \n", "more than a token": "hunter2\r\nX: y", "readable": "",
	} {
		if text != "" {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		} else {
			require.NoError(t, os.RemoveAll(file))
		}
		_, err := ReadToken(file)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Lane, class)
	}
	require.NoError(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
	token, err := ReadToken(file)
	require.NoError(t, err)
	require.Equal(t, "hunter2", token)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, "-1": 0, "1s": 0, "1.5": 0, "soon": 0, "99999999999999": MaxPause, "99999999999999999999999": 0,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Minute).Format(http.TimeFormat):     0,
		now.Add(48 * time.Hour).Format(http.TimeFormat):   MaxPause,
	} {
		require.Equal(t, want, RetryAfter(http.Header{"Retry-After": {v}}, now), v)
	}
}
