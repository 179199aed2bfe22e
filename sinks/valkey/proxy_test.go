package valkey

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between the sink and a real server and answers in its place
// when told to.
type proxy struct {
	upstream string
	l        net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	script script
}

// script says what happens to a command; the zero value passes all on.
type script struct {
	refuse  bool                       // close every connection
	silent  chan struct{}              // take commands, never answer; closed at the first
	replies func(args []string) string // "" passes the command on
}

func startProxy(t testing.TB, upstream string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{upstream: upstream, l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.set(script{refuse: true})
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) set(s script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = s
	if s.refuse {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// instead makes every such command get this reply.
func (p *proxy) instead(commands []string, reply string) {
	p.set(script{replies: func(args []string) string {
		if slices.Contains(commands, args[0]) {
			return reply
		}
		return ""
	}})
}

func (p *proxy) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	p.mu.Lock()
	if p.script.refuse {
		p.mu.Unlock()
		return
	}
	p.conns[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	// One command at a time, so that no reply overtakes another.
	commands, replies := bufio.NewReader(c), bufio.NewReader(up)
	for {
		args, err := readCommand(commands)
		if err != nil {
			return
		}
		reply, pass := p.answer(args)
		if pass {
			if _, err := up.Write(encode(args)); err != nil {
				return
			}
			var raw []byte
			if raw, err = readReply(replies, nil); err != nil {
				return
			}
			reply = string(raw)
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// readReply appends one reply as it stands, with all that is nested in it.
func readReply(r *bufio.Reader, raw []byte) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	n, _ := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return raw, nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return append(raw, b...), err
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return raw, nil
	}
	for range n {
		if raw, err = readReply(r, raw); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func (p *proxy) answer(args []string) (reply string, pass bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.script.silent != nil {
		select {
		case <-p.script.silent:
		default:
			close(p.script.silent)
		}
		return "", false
	}
	if p.script.replies != nil {
		if reply := p.script.replies(args); reply != "" {
			return reply, false
		}
	}
	return "", true
}

// readCommand reads one command: an array of bulk strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	n, err := readLength(r, '*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func readLength(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("want %c, got %q", kind, line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func encode(args []string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}
