package cloudflare

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	maxTag        = 1024    // bytes
	maxURL        = 8 << 10 // bytes; our own bound
	maxSeparators = 31
)

// checkTag tells whether Cloudflare can have stored a tag of this name: it
// takes 1 to 1,024 printable ASCII characters without space, and commas
// separate tags (developers.cloudflare.com/cache/how-to/purge-cache/purge-by-tags).
func checkTag(tag string) error {
	if tag == "" {
		return errors.New("an empty tag")
	}
	if len(tag) > maxTag {
		return fmt.Errorf("a tag of %d bytes, at most %d fit; hash long tags in the rule and in the Cache-Tag header alike", len(tag), maxTag)
	}
	for i := range len(tag) {
		if c := tag[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("a tag with a space, a comma, a control or a non-ASCII character (byte %d), which no Cache-Tag header can carry; percent-encode it here and in the header alike", i)
		}
	}
	return nil
}

// checkText refuses what no request line can carry.
func checkText(what, text string) error {
	if len(text) > maxURL {
		return fmt.Errorf("a %s of %d bytes, at most %d are sent", what, len(text), maxURL)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("a %s with a space, a control or a non-ASCII character (byte %d); percent-encode it", what, i)
		}
	}
	return nil
}

// checkURL tells whether a URL can be a file of Cloudflare's, and returns its
// host in lower case and without port. A wildcard would be taken for a literal
// star and reported as done
// (developers.cloudflare.com/cache/how-to/purge-cache/purge-by-single-file).
func checkURL(text string) (host string, err error) {
	if err := checkText("URL", text); err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		return "", errors.New("a URL that cannot be read as one")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "", errors.New("a URL without http or https and a host; write it like https://shop.example/p/1")
	case u.User != nil || u.Fragment != "" || strings.Contains(text, "#"):
		return "", errors.New("a URL with a user or a fragment, which no cache key has")
	case strings.Contains(text, "*"):
		return "", errors.New("a URL with a wildcard, which is no wildcard to a purge by URL; send a url_prefix")
	}
	return strings.ToLower(u.Hostname()), nil
}

// checkPrefix tells whether Cloudflare takes a prefix, host and path without
// scheme, query and fragment and with at most 31 separators
// (developers.cloudflare.com/cache/how-to/purge-cache/purge_by_prefix), and
// returns its host in lower case and without port.
func checkPrefix(text string) (host string, err error) {
	if err := checkText("prefix", text); err != nil {
		return "", err
	}
	switch {
	case strings.Contains(text, "://"):
		return "", errors.New("a prefix with a scheme; write it like shop.example/m/")
	case strings.ContainsAny(text, "?#"):
		return "", errors.New("a prefix with a query or a fragment, by which there are no prefixes")
	case strings.ContainsAny(text, "*@"):
		return "", errors.New("a prefix with a wildcard or a user; write host and path, like shop.example/m/")
	case strings.Count(text, "/") > maxSeparators:
		return "", fmt.Errorf("a prefix with %d slashes, at most %d are taken", strings.Count(text, "/"), maxSeparators)
	}
	u, err := url.Parse("https://" + text)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("a prefix without a host; write it like shop.example/m/")
	}
	return strings.ToLower(u.Hostname()), nil
}
