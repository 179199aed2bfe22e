package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func verify(header string, body []byte, secret string, now time.Time) bool {
	var at int64
	var v1 string
	if n, _ := fmt.Sscanf(header, "t=%d,v1=%64s", &at, &v1); n != 2 || now.Sub(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	got, err := hex.DecodeString(v1)
	return err == nil && hmac.Equal(got, mac.Sum(nil))
}

// The verifier of the documents is the one above, and takes their test vector.
func TestDocumentedSignature(t *testing.T) {
	page, err := os.ReadFile("../../docs/sinks/webhook.md")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(page), "\n```go\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "```")
	own, err := os.ReadFile("verify_test.go")
	require.NoError(t, err)
	require.Contains(t, string(own), block)

	row := func(name string) string {
		m := regexp.MustCompile("(?m)^\\| " + name + " \\| `(.*)` \\|$").FindStringSubmatch(string(page))
		require.NotNil(t, m, name)
		return m[1]
	}
	secret, body, header := row("secret"), []byte(row("body")), row("header")
	at := time.Unix(1795176000, 0)
	require.Equal(t, header, signature(secret, at, body))
	require.True(t, verify(header, body, secret, at))
	require.False(t, verify(header, append(body, ' '), secret, at))
	require.False(t, verify(header, body, secret+"x", at))
	require.False(t, verify(header, body, secret, at.Add(6*time.Minute)))
	require.False(t, verify(strings.Replace(header, "t=1795176000", "t=1795176001", 1), body, secret, at))
	require.False(t, verify("", body, secret, at))
}
