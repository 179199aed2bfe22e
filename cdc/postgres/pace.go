package postgres

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pace leaves the server alone for a moment between two reads, behind a backlog.
// PostgreSQL sends every message by a call of its own, and a reader that is
// woken for each one costs both sides more than the decoding. So the kernel is
// asked not to wake us before there is enough to read, or a moment has passed.
//
// A backlog is told by the server's own clock: what it sends now was committed a
// while ago. So nothing comes between a fresh commit and its purge, however busy
// the line is, and what is late already gets later by a small share of that.
type pace struct {
	late atomic.Bool
	conn net.Conn
	raw  syscall.RawConn
}

const (
	// lateAfter is the age of a commit, when it is sent, that makes a backlog. It
	// lies well above what a commit needs to get to the disk.
	lateAfter = 20 * time.Millisecond
	// longestNap is the most that a nap takes.
	longestNap = time.Millisecond
	// blindNap is a nap that nothing ends. A Unix socket holds two hundred rows or so
	// by default: the server must not have filled it long before.
	blindNap = 50 * time.Microsecond
	// enough ends a nap. More would wait for longer in colder memory.
	enough = 64 << 10
)

// newPace returns the pace of a connection. Where it is not TCP, or cannot say,
// a nap is a sleep.
func newPace(conn net.Conn) *pace {
	p := &pace{conn: conn}
	if secured, is := conn.(*tls.Conn); is {
		conn = secured.NetConn()
	}
	if tcp, is := conn.(*net.TCPConn); is {
		p.raw, _ = tcp.SyscallConn() // nil: see nap
	}
	return p
}

// judge notes how old the newest commit was when the server sent it.
func (p *pace) judge(age time.Duration) { p.late.Store(age > lateAfter) }

// rest naps if there is a backlog.
func (p *pace) rest(ctx context.Context) error {
	if !p.late.Load() || ctx.Err() != nil {
		return nil
	}
	if p.raw == nil || !p.lowWater(enough) {
		time.Sleep(blindNap)
		return nil
	}
	defer p.lowWater(1)
	if err := p.conn.SetReadDeadline(time.Now().Add(longestNap)); err != nil {
		return err
	}
	waited := false
	// It ends by the deadline, or when there is enough; a failure shows again in
	// the read that follows.
	_ = p.raw.Read(func(uintptr) bool {
		again := waited
		waited = true
		return again
	})
	return nil
}

// lowWater sets how much must have come before the kernel says that there is
// something to read.
func (p *pace) lowWater(n int) bool {
	ok := false
	err := p.raw.Control(func(fd uintptr) { ok = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) == nil })
	return ok && err == nil
}
