package edge

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
)

// handlerTransport asks a handler in this process instead of a server.
type handlerTransport struct{ handler http.Handler }

// RoundTrip lets the handler answer in full before it returns.
func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.RequestURI = r.URL.RequestURI()
	r.Host = r.Header.Get("X-Forwarded-Host")
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	a := &answer{header: http.Header{}}
	t.handler.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	return &http.Response{
		Status:        strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        a.sent,
		Body:          io.NopCloser(&a.body),
		ContentLength: int64(a.body.Len()),
		Request:       r,
	}, nil
}

// answer keeps what a handler writes.
type answer struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
		a.sent = a.header.Clone()
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
