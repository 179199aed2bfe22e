package lookup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// maxAnswers bounds, in bytes, what the answers to one statement may have together.
const maxAnswers = 32 << 20

var errTooMuch = fmt.Errorf("the answers have more than %d bytes", maxAnswers)

// setTimeout goes before a statement in the same round trip.
const setTimeout = "SELECT pg_catalog.set_config('statement_timeout', $1, false)"

func milliseconds(d time.Duration) []byte {
	return strconv.AppendInt(nil, max(d.Milliseconds(), 1), 10)
}

// many answers all queries of a batch with one statement.
func (r *Resolver) many(ctx context.Context, g *batch, st *statement, answers []rules.Answer) error {
	params := make([][]byte, len(g.args[0]))
	for p := range params {
		column := make([]string, len(g.args))
		for i := range g.args {
			column[i] = g.args[i][p]
		}
		var err error
		if params[p], err = pgtype.NewMap().Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, column, nil); err != nil {
			return fmt.Errorf("write the arguments: %w", err)
		}
	}
	rows := make([][]cdc.Tuple, len(g.queries))
	p := r.conn.PgConn().StartPipeline(ctx)
	p.SendQueryParams(setTimeout, [][]byte{milliseconds(g.timeout)}, nil, nil, nil)
	p.SendQueryPrepared(st.many, params, nil, nil)
	err := p.Sync()
	room := maxAnswers
	if err == nil {
		err = results(p, 2, func(n int, values [][]byte) error {
			if n == 0 {
				return nil
			}
			i, err := strconv.Atoi(string(values[0]))
			if err != nil || i < 1 || i > len(rows) {
				return errors.New("the answer names no question")
			}
			rows[i-1] = append(rows[i-1], tuple(values[1:], &room))
			return full(room)
		})
	}
	if err = r.closed(ctx, p, err); err != nil {
		return err
	}
	for i, place := range g.queries {
		answers[place] = rules.Answer{Shape: st.shape, Rows: rows[i]}
	}
	return nil
}

// each answers the queries of a batch one by one, in one round trip. One that
// fails has the error in its answer.
func (r *Resolver) each(ctx context.Context, g *batch, st *statement, answers []rules.Answer) error {
	p := r.conn.PgConn().StartPipeline(ctx)
	p.SendQueryParams(setTimeout, [][]byte{milliseconds(g.timeout)}, nil, nil, nil)
	p.SendPipelineSync()
	for _, args := range g.args {
		params := make([][]byte, len(args))
		for i := range args {
			params[i] = []byte(args[i])
		}
		p.SendQueryPrepared(st.one, params, nil, nil)
		p.SendPipelineSync() // one that fails leaves the others alone
	}
	err := p.Flush()
	if err == nil {
		err = results(p, 1, func(int, [][]byte) error { return nil })
	}
	room := maxAnswers
	failed := 0
	var first error
	for _, place := range g.queries {
		if err != nil {
			break
		}
		a := rules.Answer{Shape: st.shape}
		one := results(p, 1, func(_ int, values [][]byte) error {
			a.Rows = append(a.Rows, tuple(values, &room))
			return full(room)
		})
		var pg *pgconn.PgError
		if one != nil && !errors.As(one, &pg) {
			err = one
			break
		}
		if one != nil {
			a, first = rules.Answer{Err: plain(one)}, one
			failed++
		}
		answers[place] = a
	}
	if err = r.closed(ctx, p, err); err == nil && failed == len(g.queries) && !unfitArgument(first) {
		return first
	}
	return err
}

// results reads the rows of the next statements of a pipeline, up to the place
// where they are synchronised. The first error wins.
func results(p *pgconn.Pipeline, statements int, row func(n int, values [][]byte) error) error {
	var first error
	for n := 0; ; {
		got, err := p.GetResults()
		if err != nil {
			var pg *pgconn.PgError
			if !errors.As(err, &pg) {
				return err
			}
			// The rest up to the synchronisation is left out by the server.
			if first == nil {
				first = err
			}
			continue
		}
		switch got := got.(type) {
		case *pgconn.PipelineSync:
			if first == nil && n != statements {
				first = errors.New("the server did not answer every statement")
			}
			return first
		case *pgconn.ResultReader:
			for got.NextRow() {
				if err := row(n, got.Values()); err != nil {
					return err
				}
			}
			if _, err := got.Close(); err != nil && first == nil {
				first = err
			}
			n++
		default:
			return errors.New("the server answered with something else than rows")
		}
	}
}

// closed ends a pipeline. One that was not read to its end takes the connection
// with it.
func (r *Resolver) closed(ctx context.Context, p *pgconn.Pipeline, err error) error {
	var pg *pgconn.PgError
	if err != nil && !errors.As(err, &pg) {
		now, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		_ = r.conn.PgConn().Close(now) // the error at hand says why
		_ = p.Close()
		return err
	}
	if cerr := p.Close(); err == nil {
		err = cerr
	}
	return err
}

func full(room int) error {
	if room < 0 {
		return errTooMuch
	}
	return nil
}

// tuple copies a row, which is the connection's until the next one.
func tuple(values [][]byte, room *int) cdc.Tuple {
	out := make(cdc.Tuple, len(values))
	for i, v := range values {
		*room -= len(v) + 48
		if v == nil {
			out[i] = cdc.Value{Kind: cdc.Null}
			continue
		}
		out[i] = cdc.Value{Kind: cdc.Text, Data: slices.Clone(v)}
		if out[i].Data == nil {
			out[i].Data = []byte{}
		}
	}
	return out
}
