package cloudfront

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	distribution = "E2EXAMPLE1234"
	accessKey    = "AKIDEXAMPLE000000000"
)

// api stands in for CloudFront: it takes one operation, checks the signature,
// the body's form and the limits as the API's reference has them, and carries
// invalidations out at once.
type api struct {
	*httptest.Server

	mu      sync.Mutex
	secret  string
	fault   http.HandlerFunc
	entries map[string]string // what is held, by value: its path, or # and its tag
	known   map[string]string // content by reference
	created []batchXML
	// plain and wild are how many paths others have in progress.
	plain, wild int
}

type batchXML struct {
	XMLName         xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ InvalidationBatch"`
	CallerReference string
	Paths           struct {
		Quantity int
		Items    struct{ Path []string }
	}
}

func startAPI(t testing.TB, secret string) *api {
	a := &api{secret: secret, entries: map[string]string{}, known: map[string]string{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) set(fault http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = fault
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><ErrorResponse xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>0f3a8c1e-1111-2222-3333-444455556666</RequestId></ErrorResponse>`, code, message)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	fault := a.fault
	a.mu.Unlock()
	if fault != nil {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		fault(w, r)
		return
	}
	a.invalidate(w, r)
}

func (a *api) invalidate(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var b batchXML
	switch {
	case r.URL.Path != "/2020-05-31/distribution/"+distribution+"/invalidation":
		refuse(w, 404, "NoSuchDistribution", "The specified distribution does not exist.")
		return
	case r.Method != http.MethodPost:
		refuse(w, 405, "MethodNotAllowed", "no")
		return
	case !a.signed(r, body):
		refuse(w, 403, "SignatureDoesNotMatch", "The request signature we calculated does not match, "+accessKey)
		return
	case xml.Unmarshal(body, &b) != nil || b.CallerReference == "":
		refuse(w, 400, "MalformedXML", string(body))
		return
	case b.Paths.Quantity != len(b.Paths.Items.Path) || b.Paths.Quantity == 0:
		refuse(w, 400, "InconsistentQuantities", "quantity")
		return
	}
	content := strings.Join(b.Paths.Items.Path, "\n")
	wild := 0
	for _, p := range b.Paths.Items.Path {
		if !valid(p) {
			refuse(w, 400, "InvalidArgument", "Your request contains one or more invalid invalidation paths: "+p)
			return
		}
		if p[0] == '/' && strings.HasSuffix(p, "*") {
			wild++
		}
	}
	if before, seen := a.known[b.CallerReference]; seen {
		if before != content {
			refuse(w, 400, "InvalidationBatchAlreadyExists", b.CallerReference)
			return
		}
		// As documented: nothing is invalidated again.
		a.accept(w, b)
		return
	}
	if wild+a.wild > 15 || len(b.Paths.Items.Path)-wild+a.plain > 3000 {
		refuse(w, 400, "TooManyInvalidationsInProgress", "Processing your request will cause you to exceed the maximum number of in-progress wildcard invalidations.")
		return
	}
	a.known[b.CallerReference] = content
	a.created = append(a.created, b)
	for value, entry := range a.entries {
		if slices.ContainsFunc(b.Paths.Items.Path, func(p string) bool { return matches(p, entry) }) {
			delete(a.entries, value)
		}
	}
	a.accept(w, b)
}

func (a *api) accept(w http.ResponseWriter, b batchXML) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(http.StatusCreated)
	inner, _ := xml.Marshal(b)
	fmt.Fprintf(w, `<?xml version="1.0"?><Invalidation xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Id>I2J0I21PCUYOIK</Id><Status>InProgress</Status><CreateTime>2026-11-20T12:00:00.000Z</CreateTime>%s</Invalidation>`, inner)
}

func valid(p string) bool {
	printable := !strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' })
	switch {
	case strings.HasPrefix(p, "#"):
		return printable && len(p) > 1 && len(p) <= 257 && !strings.Contains(p, ",")
	case strings.HasPrefix(p, "/"):
		return printable && len(p) <= 4001 && !strings.ContainsAny(p, "~[]^|{}`\\\"<>#") // RFC 1738
	}
	return false
}

func matches(p, entry string) bool {
	if p[0] == '#' {
		return strings.EqualFold(p, entry)
	}
	if prefix, ok := strings.CutSuffix(p, "*"); ok {
		return strings.HasPrefix(entry, prefix) || p == "/*"
	}
	return p == entry
}

// signed computes the signature again (Signature Version 4) and compares.
func (a *api) signed(r *http.Request, body []byte) bool {
	got := r.Header.Get("Authorization")
	_, names, ok := strings.Cut(got, "SignedHeaders=")
	if !ok {
		return false
	}
	names, _, _ = strings.Cut(names, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return false
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return false
	}
	for _, name := range strings.Split(names, ";") {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: a.secret}, again, hex.EncodeToString(sum[:]), "cloudfront", "us-east-1", at)
	return err == nil && again.Header.Get("Authorization") == got
}

// left are the entries that are still cached.
func (a *api) left() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.entries)
}

func (a *api) fill(entries map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for value, entry := range entries {
		a.entries[value] = entry
	}
}

func (a *api) holds(value string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.entries[value]
	return ok
}

// seen returns the invalidations created since the last time.
func (a *api) seen() []batchXML {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.created
	a.created = nil
	return out
}
