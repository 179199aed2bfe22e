package admin

import (
	"embed"
	"errors"
	"io"
	"net/http"
	"path"
)

// files are the status page. It is served as it is: nothing builds it, and it
// asks nothing of other hosts.
//
//go:embed page
var files embed.FS

// policy lets the page load its own files and talk to its own daemon, and
// nothing else: no inline script or style, no other host, no frame around it.
// Trusted Types forbid every function that makes markup of a text, so that a
// value from the database stays a text even if the page had a mistake.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func (s *Server) pageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { serve(w, "page/page.html") })
	mux.HandleFunc("GET /page/{file}", func(w http.ResponseWriter, r *http.Request) { serve(w, "page/"+r.PathValue("file")) })
}

// serve writes one of the page's files; it is read anew each time, so that a
// newer daemon never runs beneath an older page.
func serve(w http.ResponseWriter, name string) {
	text, err := files.ReadFile(name)
	if err != nil {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType(name))
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(text)
}

// contentType does not ask the machine, whose tables differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	default:
		return "image/svg+xml"
	}
}

// explain hands the body over as it is: the reader of changes says line and
// column of what is wrong.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	change, err := io.ReadAll(r.Body)
	if err != nil {
		failWith(w, &BadRequestError{Err: errors.New("the body cannot be read, or is larger than 1 MiB")})
		return
	}
	select {
	case s.explaining <- struct{}{}:
		defer func() { <-s.explaining }()
	case <-r.Context().Done():
		return
	}
	explained, err := s.cfg.Explain(r.Context(), change)
	if err != nil {
		failWith(w, err)
		return
	}
	reply(w, http.StatusOK, explained)
}
