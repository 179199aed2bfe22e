package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A gulp is what one read brought, cut at the last whole protocol message.
// Slabs circulate between receiver and decoder, so memory is bounded: when all
// are with the decoder, the receiver does not read.
const (
	slabSize = 256 << 10
	slabs    = 4
	// maxMessage bounds one protocol message: a row of PostgreSQL cannot be
	// larger than 1 GiB.
	maxMessage = 1<<30 + 1<<16
)

// silence is how long a healthy server can be quiet: it answers our status
// updates, which ask for an answer every second, unless it is busy decoding a
// large transaction of which nothing is published.
const silence = 60 * time.Second

type receiver struct {
	conn  net.Conn
	r     io.Reader
	free  chan []byte
	gulps chan []byte
	pace  *pace
	// rest is the beginning of a message that was not received in full. It is read once run has
	// returned.
	rest []byte
}

func newReceiver(conn net.Conn, r io.Reader) *receiver {
	rc := &receiver{conn: conn, r: r, pace: newPace(conn), free: make(chan []byte, slabs), gulps: make(chan []byte, slabs)}
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
		}
		rc.rest = slab[end:]
		rc.gulps <- slab[:end]
	}
}

func (rc *receiver) read(ctx context.Context, slab []byte) ([]byte, error) {
	if len(slab) == cap(slab) {
		slab = append(slab, make([]byte, len(slab))...)[:len(slab)]
	}
	if err := rc.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return slab, err
	}
	if ctx.Err() != nil {
		return slab, ctx.Err()
	}
	n, err := rc.r.Read(slab[len(slab):cap(slab)])
	if n > 0 {
		return slab[:len(slab)+n], nil
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("the server sent nothing for %s", silence)
	case err == nil || errors.Is(err, io.EOF):
		err = errors.New("the server closed the replication connection")
	default:
		err = fmt.Errorf("replication connection: %w", err)
	}
	return slab, err
}

// recycle gives a slab back. One that grew for a large row is dropped, so that
// a single wide row does not hold memory for ever.
func (rc *receiver) recycle(slab []byte) {
	if cap(slab) > 4*slabSize {
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
