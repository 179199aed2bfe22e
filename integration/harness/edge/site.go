package edge

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
)

// statusHeader tells visitors how a response came about.
const statusHeader = "CF-Cache-Status"

// maxBody is the largest body that is stored.
const maxBody = 8 << 20

// serveSite answers from the cache, or from the origin.
func (e *Edge) serveSite(w http.ResponseWriter, r *http.Request) {
	cached := r.Method == http.MethodGet || r.Method == http.MethodHead
	key := e.keyOf(r)
	f := fetch{edge: e, key: key, status: "DYNAMIC"}
	f.store = r.Method == http.MethodGet && r.Header.Get("Authorization") == ""
	if cached {
		for waited := false; ; waited = true {
			o, id := e.cache.get(key.String(), r.Header)
			f.status = "MISS"
			if o != nil {
				switch o.state(e.cfg.Clock()) {
				case fresh:
					e.serveObject(w, r, o, "HIT")
					return
				case serveStale:
					e.refresh(f, id, r)
					e.serveObject(w, r, o, "UPDATING")
					return
				}
				f.status = "EXPIRED"
			}
			if !e.cfg.ObeyCacheControl || !f.store || waited {
				break
			}
			end, other := e.flights.begin(id)
			if other == nil {
				defer end()
				break
			}
			select {
			case <-other:
			case <-r.Context().Done():
				return
			}
		}
	}
	f.mark = e.cache.mark()
	f.send(w, r)
}

// refresh fetches a response in the background, unless that is going on.
func (e *Edge) refresh(f fetch, id string, r *http.Request) {
	end, other := e.flights.begin(id)
	if other != nil {
		return
	}
	f.mark, f.store = e.cache.mark(), true
	r = r.Clone(context.WithoutCancel(r.Context()))
	r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
	go func() {
		defer end()
		f.send(&answer{header: http.Header{}}, r)
	}()
}

// send asks the origin, and has the visitor answered.
func (f fetch) send(w http.ResponseWriter, r *http.Request) {
	f.asked = r.Header
	proxy := httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      f.edge.origin,
		ModifyResponse: f.response,
		ErrorHandler:   badGateway,
		// The status tells the visitor; no one else is told.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	proxy.ServeHTTP(w, r)
}

func badGateway(w http.ResponseWriter, _ *http.Request, _ error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = io.WriteString(w, "the origin did not answer\n")
}

func (e *Edge) serveObject(w http.ResponseWriter, r *http.Request, o *object, status string) {
	maps.Copy(w.Header(), o.header)
	w.Header().Set(statusHeader, status)
	w.Header().Set("Age", strconv.Itoa(int(o.age(e.cfg.Clock()).Seconds())))
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
	// asked are the headers of the visitor's request.
	asked http.Header
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
	o := &object{key: f.key, tags: tags, stored: f.edge.cfg.Clock(), forever: !f.edge.cfg.ObeyCacheControl}
	var vary []string
	if f.edge.cfg.ObeyCacheControl {
		var any bool
		o.life = lifetimeOf(resp.Header)
		vary, any = varyOf(resp.Header)
		o.variant = variant(vary, f.asked)
		_, asks := directives(resp.Header)["no-cache"]
		f.store = f.store && !any && !asks && o.life.age < o.life.fresh
	}
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
	o.header, o.body = header, body
	f.edge.cache.put(o, vary, unless)
	return nil
}

func storable(resp *http.Response) bool {
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Set-Cookie") != "" {
		return false
	}
	for _, forbids := range []string{"no-store", "private"} {
		if _, given := directives(resp.Header)[forbids]; given {
			return false
		}
	}
	return true
}
