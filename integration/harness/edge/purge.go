package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Kind is what a purge goes by, as the request names it.
type Kind string

// The kinds.
const (
	Files      Kind = "files"
	Tags       Kind = "tags"
	Hosts      Kind = "hosts"
	Prefixes   Kind = "prefixes"
	Everything Kind = "purge_everything"
)

// purge is a request that was understood.
type purge struct {
	kind   Kind
	values []string
}

// refusal is an answer other than success.
type refusal struct {
	status int
	errors []apiError
}

func refuse(status, code int, format string, args ...any) *refusal {
	return &refusal{status, []apiError{{Code: code, Message: fmt.Sprintf(format, args...)}}}
}

// parsePurge reads a body: one object with exactly one kind.
func parsePurge(body io.Reader, limits Limits) (purge, *refusal) {
	const needOne = `Request must contain one of "purge_everything", "files", "tags", "hosts" or "prefixes"`
	dec := json.NewDecoder(body)
	var fields map[string]json.RawMessage
	if err := dec.Decode(&fields); err != nil || fields == nil {
		return purge{}, refuse(http.StatusBadRequest, codeMalformed, "the body is not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return purge{}, refuse(http.StatusBadRequest, codeMalformed, "the body goes on after its JSON object")
	}
	var p purge
	for name := range fields {
		switch kind := Kind(name); kind {
		case Files, Tags, Hosts, Prefixes, Everything:
			p.kind = kind
		default:
			return purge{}, refuse(http.StatusBadRequest, codeNoKind, needOne)
		}
	}
	if len(fields) != 1 {
		return purge{}, refuse(http.StatusBadRequest, codeNoKind, needOne)
	}
	raw := fields[string(p.kind)]
	if p.kind == Everything {
		if string(raw) != "true" {
			return purge{}, refuse(http.StatusBadRequest, codeNoKind, needOne)
		}
		return p, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || items == nil {
		return purge{}, refuse(http.StatusBadRequest, codeNoArray, `"files", "tags", "hosts" or "prefixes" must be an array`)
	}
	most := limits.Items
	if p.kind == Files {
		most = limits.URLs
	}
	if len(items) < 1 || len(items) > most {
		return purge{}, refuse(http.StatusBadRequest, codeGuessed, "%d %s in one request, allowed are 1 to %d", len(items), p.kind, most)
	}
	for _, item := range items {
		value, ok := readItem(p.kind, item)
		if !ok {
			return purge{}, refuse(http.StatusBadRequest, codeGuessed, "an item of %q has the wrong type", p.kind)
		}
		p.values = append(p.values, value)
	}
	return p, nil
}

// readItem takes a string, or for files an object with a url and headers.
func readItem(kind Kind, raw json.RawMessage) (value string, ok bool) {
	// Unmarshal would leave the string empty for null.
	if raw[0] == '"' {
		return value, json.Unmarshal(raw, &value) == nil
	}
	if kind != Files || raw[0] != '{' {
		return "", false
	}
	var file struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
	}
	err := json.Unmarshal(raw, &file)
	return file.URL, err == nil && file.URL != ""
}

const (
	maxTag     = 1024 // characters
	maxSlashes = 31
)

// check finds the first value that the zone would not take.
func (p purge) check(zone Zone) *refusal {
	for _, value := range p.values {
		switch p.kind {
		case Tags:
			if r := checkTag(value); r != nil {
				return r
			}
		case Hosts:
			if value == "" || strings.ContainsAny(value, "/?#@ ") {
				return refuse(http.StatusBadRequest, codeGuessed, "not a host name: %q", value)
			}
		case Prefixes:
			host, _, _ := strings.Cut(strings.ToLower(value), "/")
			if host == "" || strings.Contains(value, "://") || strings.ContainsAny(value, "?#*@") || strings.Count(value, "/") > maxSlashes ||
				strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return refuse(http.StatusBadRequest, codeGuessed, "not a host and path without scheme, query and fragment and with at most %d slashes: %q", maxSlashes, value)
			}
			if !zone.holds(host) {
				return refuse(http.StatusBadRequest, codeGuessed, "not in this zone: %q", value)
			}
		case Files:
			key, err := keyOfURL(value)
			if err != nil {
				return refuse(http.StatusBadRequest, codeGuessed, "%v: %q", err, value)
			}
			if !zone.holds(key.host) {
				return refuse(http.StatusBadRequest, codeGuessed, "not in this zone: %q", value)
			}
		}
	}
	return nil
}

// checkTag refuses with HTTP 200, as the real API was seen to.
func checkTag(tag string) *refusal {
	var first apiError
	switch {
	case len(tag) > maxTag:
		first = apiError{Code: codeTagTooLong, Message: fmt.Sprintf("Tag exceeds maximum length of %d characters: %s", maxTag, tag)}
	case strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' }):
		first = apiError{Code: codeTagNotPrintable, Message: "Non-printable characters are forbidden in tags"}
	case tag == "" || strings.ContainsAny(tag, " ,"):
		first = apiError{Code: codeGuessed, Message: "a tag is empty or holds a space or a comma"}
	default:
		return nil
	}
	return &refusal{http.StatusOK, []apiError{first, {Code: codePurgeErrors, Message: "One or more cache purge errors"}}}
}
