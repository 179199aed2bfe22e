package fastly

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/walpurge/walpurge/sinks/httpsink"
)

const (
	// maxKey is how long a key may be, in bytes
	// (fastly.com/documentation/reference/http/http-headers/Surrogate-Key).
	maxKey = 1024
	// maxURL is how long a URL may be (fastly.com/documentation/reference/vcl,
	// constraints and limitations).
	maxURL = 8 << 10
)

// checkKey tells whether a response can have carried a key of this name: 1 to
// 1,024 characters from ! to ~, separated by spaces.
func checkKey(key string) error {
	if key == "" {
		return errors.New("an empty tag")
	}
	if len(key) > maxKey {
		return fmt.Errorf("a tag of %d bytes, at most %d fit; hash long tags in the rule and in the Surrogate-Key header alike", len(key), maxKey)
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("a tag with a space, a control or a non-ASCII character (byte %d), which no Surrogate-Key header can carry; percent-encode it here and in the header alike", i)
		}
	}
	return nil
}

// purgePath is what follows /purge/ in a request to purge a URL: the URL without
// its scheme, which is no part of a cache key of Fastly's.
func purgePath(text string) (string, error) {
	if len(text) > maxURL {
		return "", fmt.Errorf("a URL of %d bytes, at most %d are cached", len(text), maxURL)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' {
			return "", fmt.Errorf("a URL with a space, a control or a non-ASCII character (byte %d); percent-encode it", i)
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		return "", errors.New("a URL that cannot be read as one")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "", errors.New("a URL without http or https and a host; write it like https://shop.example/p/1")
	case u.User != nil || strings.Contains(text, "#"):
		return "", errors.New("a URL with a user or a fragment, which no cache key has")
	case strings.Contains(text, "*"):
		return "", errors.New("a URL with a wildcard, which Fastly does not have; purge a tag")
	case httpsink.HasDotSegments(u.EscapedPath()):
		return "", errors.New("a URL with a segment of dots, which would lead elsewhere")
	}
	rest := text[len(u.Scheme)+len("://"):]
	if u.Path == "" {
		host, query, found := strings.Cut(rest, "?")
		rest = host + "/"
		if found {
			rest += "?" + query
		}
	}
	return rest, nil
}
