package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A gulp is what one read brought, cut at the last whole protocol message.
// Slabs circulate between receiver and decoder, so memory is bounded: when all
// are with the decoder, the receiver does not read.
const (
	slabSize = 256 << 10
	slabs    = 4
	// largeMessage is the size from which on a message is not received into a slab.
	largeMessage = 4 * slabSize
	// maxMessage bounds one protocol message: a row of PostgreSQL cannot be
	// larger than 1 GiB.
	maxMessage = 1<<30 + 1<<16
)

// gulp is what the receiver hands over: whole messages, or the beginning of a large one.
type gulp struct {
	whole []byte
	large *large
	// dropped reports that CopyData messages before these were not kept; see receiver.discard.
	dropped bool
}

// silence is how long a healthy server can be quiet: it answers our status
// updates, which ask for an answer every second, unless it is busy decoding a
// large transaction of which nothing is published.
const silence = 60 * time.Second

type receiver struct {
	conn  net.Conn
	r     io.Reader
	free  chan []byte
	gulps chan gulp
	pace  *pace
	// gone is closed once the session takes no more gulps.
	gone chan struct{}
	// waits reports that the server was asked nothing, so that its silence means nothing; asked is when the newest
	// statement was sent, in nanoseconds since 1970. Both are for a backlog that is read through SQL.
	waits atomic.Bool
	asked atomic.Int64
	// drop holds a request to read on without the session; see discard.
	drop chan struct{}
	// rest is the beginning of a message that was not received in full; unread is what is left of
	// a large one, and precedes it. They are read once run has returned.
	rest   []byte
	unread int
}

func newReceiver(conn net.Conn, r io.Reader) *receiver {
	rc := &receiver{conn: conn, r: r, pace: newPace(conn), free: make(chan []byte, slabs), gulps: make(chan gulp, slabs+1), gone: make(chan struct{}), drop: make(chan struct{}, 1)}
	for range slabs {
		rc.free <- make([]byte, 0, slabSize)
	}
	return rc
}

// run reads until the connection fails or the context ends, then closes gulps.
func (rc *receiver) run(ctx context.Context) error {
	defer close(rc.gulps)
	stop := context.AfterFunc(ctx, func() { _ = rc.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		var slab []byte
		select {
		case slab = <-rc.free:
		case <-rc.drop:
			if err := rc.discard(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			continue
		case <-ctx.Done():
			return nil
		}
		slab = append(slab[:0], rc.rest...)
		end, err := 0, error(nil)
		if err := rc.pace.rest(ctx); err != nil {
			return err
		}
		for end == 0 {
			if slab, err = rc.read(ctx, slab); err != nil {
				rc.rest = slab
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if end, err = wholeMessages(slab); err != nil {
				return err
			}
			if n := announced(slab); end == 0 && n >= largeMessage {
				if rc.unread = rc.handOver(ctx, slab, n); rc.unread > 0 {
					rc.rest = nil
					return nil // the session returns why
				}
				slab = slab[:0]
			}
		}
		rc.rest = slab[end:]
		rc.gulps <- gulp{whole: slab[:end]}
	}
}

// discard reads up to the server's next ReadyForQuery although the session takes nothing, and hands over what
// is no CopyData. It needs no slab.
func (rc *receiver) discard(ctx context.Context) error {
	buf := append(make([]byte, 0, slabSize), rc.rest...)
	var kept []byte
	for ready := false; !ready; {
		for len(buf) < 5 {
			n, err := rc.readSome(ctx, buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if err != nil {
				return err
			}
		}
		typ, n := buf[0], 1+int(binary.BigEndian.Uint32(buf[1:]))
		if n < 5 || n > maxMessage {
			return fmt.Errorf("protocol message %q announces %d bytes", typ, n-1)
		}
		for left := n; left > 0; {
			take := min(left, len(buf))
			if typ != 'd' {
				kept = append(kept, buf[:take]...)
			}
			left -= take
			buf = append(buf[:0], buf[take:]...)
			if left > 0 {
				got, err := rc.readSome(ctx, buf[:cap(buf)])
				buf = buf[:got]
				if err != nil {
					return err
				}
			}
		}
		ready = typ == 'Z'
	}
	rc.rest = buf
	rc.gulps <- gulp{whole: kept, dropped: true}
	return nil
}

// announced is the length of the message that begins a slab, without its type and length; 0 if it
// is no CopyData message, or its length has not arrived.
func announced(slab []byte) int {
	if len(slab) < 5 || slab[0] != 'd' {
		return 0
	}
	return int(binary.BigEndian.Uint32(slab[1:])) - 4
}

func (rc *receiver) read(ctx context.Context, slab []byte) ([]byte, error) {
	if len(slab) == cap(slab) {
		slab = append(slab, make([]byte, len(slab))...)[:len(slab)]
	}
	n, err := rc.readSome(ctx, slab[len(slab):cap(slab)])
	return slab[:len(slab)+n], err
}

// readSome reads at least one byte, or returns why it cannot.
func (rc *receiver) readSome(ctx context.Context, b []byte) (int, error) {
	if err := rc.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	n, err := rc.r.Read(b)
	if n > 0 {
		return n, nil
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		if ctx.Err() == nil && (rc.waits.Load() || time.Since(time.Unix(0, rc.asked.Load())) < silence) {
			return rc.readSome(ctx, b)
		}
		err = fmt.Errorf("the server sent nothing for %s", silence)
	case err == nil || errors.Is(err, io.EOF):
		err = errors.New("the server closed the replication connection")
	default:
		err = fmt.Errorf("replication connection: %w", err)
	}
	return 0, err
}

// recycle gives a slab back. One that grew for a large message is dropped.
func (rc *receiver) recycle(slab []byte) {
	if cap(slab) > largeMessage {
		slab = make([]byte, 0, slabSize)
	}
	rc.free <- slab
}

// wholeMessages returns the length of the whole protocol messages at the front
// of b: a type byte and a length that counts itself but not the type.
func wholeMessages(b []byte) (int, error) {
	end := 0
	for len(b)-end >= 5 {
		n := binary.BigEndian.Uint32(b[end+1:])
		if n < 4 || n > maxMessage {
			return 0, fmt.Errorf("protocol message %q announces %d bytes", b[end], n)
		}
		if len(b)-end-1 < int(n) {
			break
		}
		end += 1 + int(n)
	}
	return end, nil
}
