package edge

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Paths is the kind of a purge through CloudFront's API: paths, paths that end in *, and tags
// behind a #.
const Paths Kind = "paths"

// cloudfrontPrefix is the path of CloudFront's API.
const cloudfrontPrefix = "/2020-05-31/distribution/"

// Quotas of CloudFront for what is in progress in one distribution.
const (
	pathsInProgress     = 3000
	wildcardsInProgress = 15
	maxPath             = 4000
)

// Distribution is a part of the cache that CloudFront's API purges.
type Distribution struct {
	ID string
	// Hosts are as those of a Zone.
	Hosts []string
}

// distributionState has what the API of a distribution remembers.
type distributionState struct {
	zone Zone

	mu sync.Mutex
	// known has the paths of each invalidation by its caller's reference, status its progress by id.
	known  map[string]invalidation
	status map[string]string
	// plain and wild are the paths in progress.
	plain, wild int
}

type invalidation struct{ id, paths string }

type invalidationBatch struct {
	XMLName         xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ InvalidationBatch"`
	CallerReference string
	Paths           struct {
		Quantity int
		Items    struct{ Path []string }
	}
}

// serveCloudFront answers for CreateInvalidation and GetInvalidation.
func (e *Edge) serveCloudFront(w http.ResponseWriter, r *http.Request) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, cloudfrontPrefix), "/")
	d := e.distributions[id]
	seq := e.log.add(Request{Zone: id, Kind: Paths, At: e.cfg.Clock()})
	refused := func(status int, code, message string) {
		e.log.update(seq, func(r *Request) { r.Status = status })
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0"?><ErrorResponse xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Error><Type>Sender</Type>`+
			`<Code>%s</Code><Message>%s</Message></Error><RequestId>%d</RequestId></ErrorResponse>`, code, message, seq)
	}
	known, one := strings.CutPrefix(rest, "invalidation/")
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="):
		refused(http.StatusForbidden, "MissingAuthenticationToken", "The request is not signed.")
	case d == nil || rest != "invalidation" && !one:
		refused(http.StatusNotFound, "NoSuchDistribution", "The specified distribution does not exist.")
	case r.Method == http.MethodGet && one:
		d.mu.Lock()
		status := d.status[known]
		d.mu.Unlock()
		if status == "" {
			refused(http.StatusNotFound, "NoSuchInvalidation", "The specified invalidation does not exist.")
			return
		}
		e.acceptInvalidation(w, seq, http.StatusOK, known, status)
	case r.Method == http.MethodPost && !one:
		var b invalidationBatch
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil || xml.Unmarshal(body, &b) != nil || b.CallerReference == "" {
			refused(http.StatusBadRequest, "MalformedXML", "The XML is not that of an invalidation.")
			return
		}
		e.log.update(seq, func(r *Request) { r.Values = b.Paths.Items.Path })
		e.invalidate(w, seq, d, b, refused)
	default:
		refused(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method is not allowed here.")
	}
}

func (e *Edge) acceptInvalidation(w http.ResponseWriter, seq uint64, status int, id, progress string) {
	e.log.update(seq, func(r *Request) { r.Status = status })
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Invalidation xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Id>%s</Id><Status>%s</Status>`+
		`<CreateTime>%s</CreateTime></Invalidation>`, id, progress, e.cfg.Clock().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// invalidate starts an invalidation. One whose reference is known is not carried out again.
func (e *Edge) invalidate(w http.ResponseWriter, seq uint64, d *distributionState, b invalidationBatch, refused func(status int, code, message string)) {
	paths := b.Paths.Items.Path
	if len(paths) == 0 || b.Paths.Quantity != len(paths) {
		refused(http.StatusBadRequest, "InconsistentQuantities", "The value of Quantity and the size of Items do not match.")
		return
	}
	wild := 0
	for _, p := range paths {
		if !validPath(p) {
			refused(http.StatusBadRequest, "InvalidArgument", "Your request contains one or more invalid invalidation paths.")
			return
		}
		if p[0] == '/' && strings.HasSuffix(p, "*") {
			wild++
		}
	}
	plain, content := len(paths)-wild, strings.Join(paths, "\n")
	d.mu.Lock()
	before, repeated := d.known[b.CallerReference]
	switch {
	case repeated && before.paths != content:
		d.mu.Unlock()
		refused(http.StatusBadRequest, "InvalidationBatchAlreadyExists", "The caller reference was used for other paths.")
		return
	case repeated:
		status := d.status[before.id]
		d.mu.Unlock()
		e.acceptInvalidation(w, seq, http.StatusCreated, before.id, status)
		return
	case d.plain+plain > pathsInProgress || d.wild+wild > wildcardsInProgress:
		d.mu.Unlock()
		refused(http.StatusBadRequest, "TooManyInvalidationsInProgress", "Processing your request will cause you to exceed the maximum number of in-progress invalidations.")
		return
	}
	id := fmt.Sprintf("I%013d", seq)
	d.known[b.CallerReference], d.status[id] = invalidation{id, content}, "InProgress"
	d.plain, d.wild = d.plain+plain, d.wild+wild
	d.mu.Unlock()
	e.acceptInvalidation(w, seq, http.StatusCreated, id, "InProgress")
	e.later(seq, purge{kind: Paths, values: paths}, d.zone, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.status[id] = "Completed"
		d.plain, d.wild = d.plain-plain, d.wild-wild
	})
}

// validPath says whether the API takes a path: of URL characters (RFC 1738), with a * at its end
// only as a wildcard; or a tag behind a #.
func validPath(p string) bool {
	if p == "" || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	if tag, is := strings.CutPrefix(p, "#"); is {
		return tag != "" && len(tag) <= 256 && !strings.Contains(tag, ",")
	}
	return p[0] == '/' && len(p) <= maxPath+len("*") && !strings.ContainsAny(p, "~[]^|{}`\\\"<>#")
}

// coversPath reports whether an invalidation of the paths takes the object: the path with its
// query, byte for byte, or its beginning before a *; every variant of it.
func coversPath(paths []string, o *object) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		if tag, is := strings.CutPrefix(p, "#"); is {
			return slices.Contains(o.tags, strings.ToLower(tag))
		}
		if prefix, wild := strings.CutSuffix(p, "*"); wild {
			return strings.HasPrefix(o.key.path, prefix)
		}
		return o.key.path == p
	})
}
