package httpsink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/sinks"
)

// Answer is what came back, without its body.
type Answer struct {
	Status int
	Header http.Header
}

// maxUnread bounds what is read of a body that is not used, so that the
// connection can be used again.
const maxUnread = 64 << 10

// Do sends a request and blocks until the answer is complete: one that breaks
// off is an error. The error is redacted.
func Do(client *http.Client, req *http.Request) (Answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, Unanswered(req.Context(), err, 0)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, maxUnread); err != nil && !errors.Is(err, io.EOF) {
		return Answer{}, Unanswered(req.Context(), err, 0)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header}, nil
}

// Unanswered describes why a request got no answer, without the URL, which
// *url.Error repeats. A certificate that cannot be verified is a lane error. When the context is over, that is the reason. A timeout
// is the request's own, within that of the context; 0 means that it has none.
func Unanswered(ctx context.Context, err error, timeout time.Duration) error {
	cause := ctx.Err()
	switch {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("purge stopped: %w", cause)
	case cause != nil:
		return fmt.Errorf("no answer in time: %w", cause)
	case timeout > 0 && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return distrusted(fmt.Errorf("no answer: %w", display.Redact(err)))
}

// distrusted makes a lane error, which says what to set, of a certificate that cannot be verified.
func distrusted(err error) error {
	var cert *tls.CertificateVerificationError
	if !errors.As(err, &cert) {
		return err
	}
	fix := "the server must renew it"
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		fix = "set tls.ca_file to the certificate of its authority, or to a self-signed certificate itself"
	case errors.As(err, &name):
		fix = "the host in the URL must be one of its names"
	}
	return sinks.LaneError(fmt.Errorf("%w; %s", err, fix))
}
