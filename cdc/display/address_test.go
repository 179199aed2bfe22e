package display

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"nats://u:hunter2@a:4222,nats://u:hunter2@b:4222": "nats://a:4222,nats://b:4222",
		"nats://hunter2@a": "nats://a",
		"a:4222":           "a:4222",
		"u:hunter2@a:4222": "a:4222",
		"postgres://u:hunter2@h:5432/d?sslmode=require": "postgres://h:5432",
		"postgres://u:hunter2@a,b:5433/d":               "postgres://a,postgres://b:5433",
		"postgres:///d?host=/run/postgresql":            "postgres://",
		"host=h port=5432 user=u password=hunter2":      "h:5432",
		"host=h password='hunter2 \\' x'":               "h",
		"user=u password = hunter2 host = 10.0.0.1 ":    "10.0.0.1",
		"host=/run/postgresql port=5433 dbname=d":       "/run/postgresql:5433",
		"host=h password=hunter2 x":                     Hidden,
		"hunter2hunter2":                                Hidden,
		"dbname=d":                                      Hidden,
		"valkeys://u:hunter2@a:6379,b:6379/0":           "valkeys://a:6379,valkeys://b:6379",
		"unix:///run/valkey.sock?db=3":                  "unix:///run/valkey.sock",
		"https://hooks.example/services/hunter2?k=v#f":  "https://hooks.example",
		"https://u:p%40hunter2@[2001:db8::1]:8443/x":    "https://[2001:db8::1]:8443",
		"dns+http://varnish:6081":                       "dns+http://varnish:6081",
		"127.0.0.1:7468":                                "127.0.0.1:7468",
		":7468":                                         ":7468",
		"https://u:12/hunter2@h":                        Hidden,
		"nats://12#hunter2@h":                           Hidden,
		"nats://u:1,hunter2@h":                          Hidden,
		"http://u:hunter2@h:port/":                      Hidden,
		"http://u:hunter2@[::1":                         Hidden,
		"://u:hunter2@h":                                Hidden,
		"hunter2 hunter2":                               Hidden,
		"unix:hunter2\n":                                Hidden,
		"":                                              Hidden,
		"http://h\x1b[31m/":                             Hidden,
	} {
		require.Equal(t, want, Address(address), "%q", address)
	}
}

func TestMisread(t *testing.T) {
	for _, address := range []string{"nats://a#b@h", "nats://u:12/hunter2@h", "postgres://u:12/x@h/d", "nats://ok,nats://u:1?x@h"} {
		require.True(t, Misread(address), address)
	}
	for _, address := range []string{"nats://u:p@h:1", "a@b", "postgres://u:p@h/d?x=y"} {
		require.False(t, Misread(address), address)
	}
}

func TestRedact(t *testing.T) {
	require.NoError(t, Redact(nil, "nats://u:hunter2@h"))
	plain := errors.New("connection refused")
	require.Same(t, plain, Redact(plain, "nats://u:hunter2@h"), "an error without a secret stays as it is")

	posted := &url.Error{Op: "Post", URL: "http://u:hunter2@h/x?token=hunter2", Err: plain}
	err := Redact(fmt.Errorf("send: %w", posted))
	require.EqualError(t, err, "send: Post http://h: connection refused")
	require.ErrorIs(t, err, plain)

	_, parse := url.Parse("http://u:hunter2@h:port")
	err = Redact(errors.Join(plain, fmt.Errorf("proxy: %w", parse)))
	require.NotContains(t, err.Error(), "hunter2")
	require.Contains(t, err.Error(), "connection refused\nproxy: not a valid address")

	// A library that formats with %v leaves no error to find; the address is given then.
	err = Redact(fmt.Errorf("invalid proxy %q: %v", "http://u:hunter2@h:port", parse), "http://u:hunter2@h:port")
	require.NotContains(t, err.Error(), "hunter2")
	// The server may say the password, as it is meant.
	require.EqualError(t, Redact(errors.New("user u, password p@ss w0rd"), "nats://u:p%40ss%20w0rd@h"), "user u, password ***")
}

// TestPropertyNoSecretIsShown: whatever surrounds it, the secret of an address is not shown, and neither is it in what net/url says.
func TestPropertyNoSecretIsShown(t *testing.T) {
	const secret = "hunter2"
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.StringMatching(`[a-z0-9:@/?#%,=& '\\\[\].-]{0,8}`)
		before, after := word.Draw(rt, "before"), word.Draw(rt, "after")
		scheme := rapid.SampledFrom([]string{"nats://", "postgres://", "http://", "valkey://", "", "://"}).Draw(rt, "scheme")
		address := scheme + "u:" + before + secret + after + "@" + rapid.SampledFrom([]string{"h", "h:1", "h:port", "[::1", "h/p", "h,i"}).Draw(rt, "host")
		require.NotContains(rt, Address(address), secret, "%q", address)
		if _, err := url.Parse(address); err != nil {
			require.NotContains(rt, Redact(err).Error(), secret, "%q", address)
			require.NotContains(rt, Redact(fmt.Errorf("parse %q: %v", address, err), address).Error(), secret, "%q", address)
		}
		require.NotContains(rt, Redact(errors.New("cannot use "+address), address).Error(), secret, "%q", address)
	})
}
