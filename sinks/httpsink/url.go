package httpsink

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var hostForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// IsHost reports whether a text is a host name or an address, with or without a
// port.
func IsHost(text string) bool { return hostForm.MatchString(text) }

// ParseURL takes a URL of a page apart as a browser would ask for it: the host in
// lower case, and a path that RequestURI prints byte for byte as it was given. It
// refuses what no browser would send like that, since it would be another page
// that is purged. Its errors do not repeat the URL.
func ParseURL(text string) (url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !IsHost(u.Host) || u.User != nil {
		return url.URL{}, errors.New("not a valid URL; write it like https://shop.example/p/{slug}")
	}
	_, sent, _ := strings.Cut(text, "://")
	sent = sent[len(u.Host):]
	if !strings.HasPrefix(sent, "/") {
		sent = "/" + sent
	}
	if u.Path == "" {
		u.Path = "/"
	}
	u.Host = strings.ToLower(u.Host)
	if u.RequestURI() != sent {
		return url.URL{}, errors.New("a URL that no browser would send like that: a fragment, or a character that has to be percent-encoded")
	}
	return *u, nil
}

// ParsePrefix takes a URL prefix, host and path without a scheme, apart. The path
// begins with a slash.
func ParsePrefix(text string) (host, path string, err error) {
	host, path, slash := strings.Cut(text, "/")
	if !slash || !IsHost(host) {
		return "", "", errors.New("a URL prefix without a host and a path; write it like shop.example/m/{merchant_id}/")
	}
	return strings.ToLower(host), "/" + path, nil
}

// HasDotSegments reports whether a path has a segment that readers of URLs resolve:
// the request would then be for another URL, or for no purge at all.
func HasDotSegments(path string) bool {
	for segment := range strings.SplitSeq(strings.ToLower(path), "/") {
		switch strings.ReplaceAll(segment, "%2e", ".") {
		case ".", "..":
			return true
		}
	}
	return false
}

// Bytes that a browser sends as they stand, although a rule percent-encodes them in a value (WHATWG URL,
// the path and the special-query percent-encode sets). A * is none of them, since providers take it for
// a wildcard; nor is what separates the parameters of a query.
const (
	barePath  = "!$&'()+,:;=@"
	bareQuery = "!$(),:;@"
)

// Spellings returns the ways in which a path with its query can arrive: as it is given, which is what a
// browser sends for a link that was percent-encoded in full, and, where that differs, with those bytes
// as they stand that a browser does not encode.
func Spellings(requestURI string) []string {
	path, query, more := strings.Cut(requestURI, "?")
	bare := unescape(path, barePath)
	if more {
		bare += "?" + unescape(query, bareQuery)
	}
	if bare == requestURI {
		return []string{requestURI}
	}
	return []string{bare, requestURI}
}

// unescape replaces the escapes of those bytes.
func unescape(s, bytes string) string {
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && strings.IndexByte(bytes, byte(n)) >= 0 {
				sb.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		sb.WriteByte(s[i])
	}
	return sb.String()
}
