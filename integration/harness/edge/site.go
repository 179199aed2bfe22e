package edge

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
)

// statusHeader tells visitors how a response came about.
const statusHeader = "CF-Cache-Status"

// maxBody is the largest body that is stored.
const maxBody = 8 << 20

// serveSite answers from the cache, or from the origin.
func (e *Edge) serveSite(w http.ResponseWriter, r *http.Request) {
	cached := r.Method == http.MethodGet || r.Method == http.MethodHead
	key := e.keyOf(r)
	if cached {
		if o := e.cache.get(key.String()); o != nil {
			e.serveObject(w, r, o)
			return
		}
	}
	f := fetch{edge: e, key: key, mark: e.cache.mark(), status: "DYNAMIC"}
	if cached {
		f.status = "MISS"
	}
	f.store = r.Method == http.MethodGet && r.Header.Get("Authorization") == ""
	proxy := httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      e.origin,
		ModifyResponse: f.response,
		ErrorHandler:   badGateway,
		// The status tells the visitor; there is nobody else to tell.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	proxy.ServeHTTP(w, r)
}

func badGateway(w http.ResponseWriter, _ *http.Request, _ error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = io.WriteString(w, "the origin did not answer\n")
}

func (e *Edge) serveObject(w http.ResponseWriter, r *http.Request, o *object) {
	maps.Copy(w.Header(), o.header)
	w.Header().Set(statusHeader, "HIT")
	w.Header().Set("Age", strconv.Itoa(int(e.cfg.Clock().Sub(o.stored).Seconds())))
	w.Header().Set("Content-Length", strconv.Itoa(len(o.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		// A visitor that has gone is no error of the edge.
		_, _ = w.Write(o.body)
	}
}

// fetch is one request on its way to the origin and back.
type fetch struct {
	edge   *Edge
	key    cacheKey
	mark   uint64
	store  bool
	status string
}

func (f fetch) rewrite(r *httputil.ProxyRequest) {
	target := &url.URL{Scheme: "http", Host: "origin.invalid"} // never dialled: see handlerTransport
	if f.edge.cfg.OriginURL != "" {
		if u, err := url.Parse(f.edge.cfg.OriginURL); err == nil {
			target = u
		}
	}
	r.SetURL(target)
	r.SetXForwarded()
	r.Out.Header.Set("X-Forwarded-Host", f.key.host)
	r.Out.Header.Set("X-Forwarded-Proto", f.key.scheme)
	if f.store {
		// What is stored must be whole and fit for every visitor.
		for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
			r.Out.Header.Del(name)
		}
		r.Out.Header.Set("Accept-Encoding", "identity")
	}
}

func (f fetch) response(resp *http.Response) error {
	tags := tagsOf(resp.Header)
	resp.Header.Del("Cache-Tag")
	resp.Header.Set(statusHeader, f.status)
	if !f.store || !storable(resp) {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return err
	}
	if len(body) > maxBody {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
		return nil
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	header := resp.Header.Clone()
	header.Del("Content-Length")
	var unless *uint64
	if f.edge.cfg.DropLateFetches {
		unless = &f.mark
	}
	f.edge.cache.put(&object{key: f.key, header: header, body: body, tags: tags, stored: f.edge.cfg.Clock()}, unless)
	return nil
}

func storable(resp *http.Response) bool {
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Set-Cookie") != "" {
		return false
	}
	for directive := range strings.SplitSeq(strings.Join(resp.Header.Values("Cache-Control"), ","), ",") {
		switch strings.ToLower(strings.TrimSpace(directive)) {
		case "no-store", "private":
			return false
		}
	}
	return true
}
