package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy stands between the daemon and Valkey, reads what it passes on, and knows
// which UNLINK was answered. A hook sees every UNLINK before it is passed on.
type proxy struct {
	t      *testing.T
	target string
	l      net.Listener

	mu      sync.Mutex
	before  func(keys []string) any
	after   func(token any)
	gate    chan struct{}
	waiting map[string]bool
	signal  chan struct{}
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{t: t, target: target, l: l, waiting: make(map[string]bool), signal: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) url() string { return "valkey://" + p.l.Addr().String() + "/0" }

// hooks sets what is called before an UNLINK is passed on, and, with what that
// returned, after it was answered without an error.
func (p *proxy) hooks(before func(keys []string) any, after func(token any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

// hold keeps every UNLINK until the function returned is called.
func (p *proxy) hold() func() {
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.gate = nil
		p.mu.Unlock()
		close(gate)
	}
}

// untilHeld waits until an UNLINK of the key is being held.
func (p *proxy) untilHeld(key string) {
	p.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		held, signal := p.waiting[key], p.signal
		p.mu.Unlock()
		if held {
			return
		}
		select {
		case <-signal:
		case <-deadline:
			require.FailNow(p.t, "no UNLINK of "+key+" arrived")
		}
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	// One entry per command sent and not answered: what the hook returned for an
	// UNLINK, or nil.
	sent := make(chan any, 1<<16)
	go func() {
		defer client.Close()
		defer server.Close()
		r := bufio.NewReader(server)
		for token := range sent {
			raw, failed, err := reply(r)
			if err != nil {
				return
			}
			p.mu.Lock()
			after := p.after
			p.mu.Unlock()
			if token != nil && !failed && after != nil {
				after(token)
			}
			if _, err := client.Write(raw); err != nil {
				return
			}
		}
	}()
	defer close(sent)
	r := bufio.NewReader(client)
	for {
		args, raw, err := request(r)
		if err != nil {
			return
		}
		var token any
		if strings.EqualFold(args[0], "UNLINK") {
			token = p.pass(args[1:])
		}
		sent <- token
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

func (p *proxy) pass(keys []string) any {
	p.mu.Lock()
	before, gate := p.before, p.gate
	if gate != nil {
		for _, k := range keys {
			p.waiting[k] = true
		}
		close(p.signal)
		p.signal = make(chan struct{})
	}
	p.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if before != nil {
		return before(keys)
	}
	return nil
}

// request reads one command: an array of bulk strings.
func request(r *bufio.Reader) (args []string, raw []byte, err error) {
	n, line, err := header(r, '*')
	if err != nil {
		return nil, nil, err
	}
	raw = line
	for range n {
		size, line, err := header(r, '$')
		if err != nil {
			return nil, nil, err
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, nil, err
		}
		raw = append(append(raw, line...), body...)
		args = append(args, string(body[:size]))
	}
	if len(args) == 0 {
		return nil, nil, errors.New("empty command")
	}
	return args, raw, nil
}

func header(r *bufio.Reader, want byte) (int, []byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return 0, nil, err
	}
	if line[0] != want {
		return 0, nil, fmt.Errorf("want %q, got %q", want, line)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	return n, line, err
}

// reply reads one reply of RESP2 or RESP3, whole.
func reply(r *bufio.Reader) (raw []byte, failed bool, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, false, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	switch line[0] {
	case '-', '!':
		failed = true
	case '%':
		n *= 2
	}
	switch line[0] {
	case '$', '!', '=':
		if n >= 0 {
			body := make([]byte, n+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return nil, false, err
			}
			line = append(line, body...)
		}
	case '*', '%', '~', '>':
		for range n {
			part, _, err := reply(r)
			if err != nil {
				return nil, false, err
			}
			line = append(line, part...)
		}
	}
	return line, failed, nil
}
