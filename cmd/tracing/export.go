package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/readfile"
)

var notSent = condition.Text{Level: slog.LevelWarn, On: "traces were not sent", Off: "traces are sent again"}

// client sends spans by OTLP over HTTP, in protobuf. The library's own does the same and
// brings gRPC along, which would make the binary two thirds larger. The environment
// variables are those of the OpenTelemetry specification, "Protocol Exporter".
type client struct {
	url     string
	headers map[string]string
	http    *http.Client
	// conditions is where spans that a collector does not take are logged.
	conditions *condition.Log
}

// newClient reads the environment; a variable for traces goes before the general one.
func newClient(lookup func(string) (string, bool), log *slog.Logger) (*client, error) {
	get := func(name string) string {
		if v, _ := lookup("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
			return v
		}
		v, _ := lookup("OTEL_EXPORTER_OTLP_" + name)
		return v
	}
	c := &client{headers: make(map[string]string), http: &http.Client{Timeout: 10 * time.Second}, conditions: condition.NewLog(log)}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("OpenTelemetry: "+format, args...)) }
	c.url = get("ENDPOINT")
	if own, _ := lookup("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); own == "" {
		c.url = strings.TrimSuffix(c.url, "/") + "/v1/traces"
	}
	if u, err := url.Parse(c.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		fail("the endpoint is not an http or https URL; write http://collector.example:4318")
	}
	if p := get("PROTOCOL"); p != "" && p != "http/protobuf" {
		fail("protocol %q is not known; walpurge sends http/protobuf: name the collector's port for HTTP, 4318", p)
	}
	for pair := range strings.SplitSeq(get("HEADERS"), ",") {
		name, value, found := strings.Cut(pair, "=")
		if value, err := url.PathUnescape(strings.TrimSpace(value)); err == nil && found {
			c.headers[strings.TrimSpace(name)] = value
		} else if strings.TrimSpace(pair) != "" {
			fail("the headers are not name=value, separated by commas")
		}
	}
	if ms := get("TIMEOUT"); ms != "" {
		n, err := strconv.Atoi(ms)
		if err != nil || n <= 0 {
			fail("the timeout is %q; write milliseconds", ms)
		}
		c.http.Timeout = time.Duration(n) * time.Millisecond
	}
	if file := get("CERTIFICATE"); file != "" {
		pem, err := readfile.Read(file, readfile.MaxCertificate)
		roots := x509.NewCertPool()
		if err != nil || !roots.AppendCertsFromPEM(pem) {
			fail("the certificate %s cannot be used", file)
		}
		c.http.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	return c, errors.Join(errs...)
}

// Start implements otlptrace.Client.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.conditions.Close()
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client; it is called by one goroutine. What a
// collector does not take is lost, and the log says so as a condition.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	if err := c.send(ctx, spans); err != nil {
		c.conditions.At(notSent).Observe("err", err, "attempts", condition.Sum(1))
	} else {
		c.conditions.At(notSent).End()
	}
	return nil
}

// send posts spans. TracesData has the same form on the wire as the request of the
// protocol (opentelemetry-proto, trace.proto).
func (c *client) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return display.Redact(err, c.url)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return display.Redact(err, c.url)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %s", resp.Status)
	}
	return nil
}
