package postgres

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pglogrepl"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
)

// A row can have 1 GiB, and most of that is usually in columns that no rule reads. So a large
// message is not received as a whole: the session's goroutine reads it from the connection, and
// keeps the values that the handler reads. The receiver waits meanwhile; the reporter does not, so
// that the server goes on hearing from us.

// large is a message that the session's goroutine reads from the connection.
type large struct {
	io.Reader
	// intake ends when nothing more is to be read.
	intake context.Context
	body   *io.LimitedReader
	done   chan struct{}
}

// handOver hands over a message of which slab has the beginning, and waits until it is read. It
// returns how much of it was not read.
func (rc *receiver) handOver(ctx context.Context, slab []byte, n int) (unread int) {
	rest := io.Reader(readerFunc(func(b []byte) (int, error) { return rc.readSome(ctx, b) }))
	body := &io.LimitedReader{R: io.MultiReader(bytes.NewReader(slab[5:]), rest), N: int64(n)}
	l := &large{Reader: body, intake: ctx, body: body, done: make(chan struct{})}
	rc.gulps <- gulp{large: l}
	select {
	case <-l.done:
	case <-rc.gone:
	}
	return int(body.N)
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// errStopped says that a large message was not read to its end because of a stop. Its transaction
// comes again.
var errStopped = errors.New("the intake has ended")

// handOverLarge reads a large message and hands over what is in it. head returns the size of what precedes
// the data, given the beginning of the message and its size.
func (s *session) handOverLarge(ctx context.Context, l *large, head func(b []byte, n int) (int, error)) error {
	data, err := s.thin(l, head)
	close(l.done)
	switch {
	case err != nil && l.intake.Err() != nil:
		return errStopped
	case err != nil:
		return err
	}
	defer s.decoder.Release()
	s.large = true
	defer func() { s.large = false }()
	return s.wal(ctx, data)
}

// walHead is the head of a large message of the stream.
func (s *session) walHead(b []byte, n int) (int, error) {
	const header = 25 // of XLogData
	if b[0] != pglogrepl.XLogDataByteID {
		return 0, fmt.Errorf("undecodable replication message of %d bytes", n)
	}
	s.sent = int64(binary.BigEndian.Uint64(b[17:]))
	return header, nil
}

// thin reads a large message as far as the handler reads what is in it.
func (s *session) thin(l *large, head func(b []byte, n int) (int, error)) ([]byte, error) {
	n := int(l.body.N)
	r := bufio.NewReaderSize(l, slabSize)
	beginning, err := r.Peek(catchup.Head)
	if err != nil {
		return nil, err
	}
	header, err := head(beginning, n)
	if err != nil {
		return nil, err
	}
	if _, err := r.Discard(header); err != nil {
		return nil, err
	}
	return s.decoder.Thin(r, n-header, pgoutput.Interest{
		Columns: s.reads,
		Content: func(prefix string) int {
			if isOwn(prefix) {
				return 0
			}
			return s.handler.Hears(&s.tx, prefix)
		},
	})
}

// reads returns which columns of a row the handler reads, under each of the tables as which the row
// is handed over; nil means all of them.
func (s *session) reads(rel *cdc.Relation) []bool {
	tables := append([]*cdc.Relation{rel}, s.others(rel)...)
	all := make([]bool, len(rel.Columns))
	for _, table := range tables {
		reads := s.handler.Reads(&s.tx, table)
		if reads == nil {
			return nil
		}
		for i := range min(len(all), len(reads)) {
			all[i] = all[i] || reads[i]
		}
	}
	return all
}
