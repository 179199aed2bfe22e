package varnish

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a sink and a node, bytes for bytes, until it is told to
// misbehave.
type proxy struct {
	addr, target string

	mu      sync.Mutex
	fault   func(c net.Conn, r *http.Request)
	refuses func(r *http.Request) string
	open    map[net.Conn]bool
	methods []string
}

func startProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: l.Addr().String(), target: target, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.set(nil)
		all.Wait()
	})
	return p
}

// set arms a fault, or nil for none, and cuts every connection.
func (p *proxy) set(fault func(net.Conn, *http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.refuses = fault, nil
	for c := range p.open {
		_ = c.Close()
	}
}

// forward arms an answer to some requests; with an empty one they are passed on.
func (p *proxy) forward(refuses func(r *http.Request) string) {
	p.set(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = refuses
}

// count returns how many requests came since the last count.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.methods)
	p.methods = nil
	return n
}

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	fault := p.fault
	p.open[c] = true
	p.mu.Unlock()
	defer func() {
		_ = c.Close()
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}()
	node, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = node.Close() }()
	in := bufio.NewReader(c)
	out := bufio.NewReader(node)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.methods = append(p.methods, r.Method)
		refuses := p.refuses
		p.mu.Unlock()
		if refuses != nil {
			if answer := refuses(r); answer != "" {
				_, _ = io.WriteString(c, answer)
				continue
			}
		}
		if fault != nil {
			fault(c, r)
			return
		}
		if err := r.Write(node); err != nil {
			return
		}
		resp, err := http.ReadResponse(out, r)
		if err != nil {
			return
		}
		if err := resp.Write(c); err != nil {
			return
		}
	}
}

// says answers with these bytes.
func says(answer string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, answer) }
}

// silent waits until the other side has had enough.
func silent(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) }

// refuses answers so, but to control purges, which it takes.
func refuses(head string) func(net.Conn, *http.Request) {
	return func(c net.Conn, r *http.Request) {
		if strings.Contains(r.Header.Get("xkey"), checkName) {
			says("HTTP/1.1 200 OK\r\nWalpurge-Purged: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")(c, r)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 "+head+"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
}
