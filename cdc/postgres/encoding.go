package postgres

import (
	"context"
	"errors"
	"fmt"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// The server converts what it sends from the encoding of the database to UTF-8, with three
// exceptions, which are dealt with here.
//
// From SQL_ASCII it cannot convert, but it would check: so nothing is asked of it, and values
// are the bytes that the application wrote.
//
// The content of a message is sent as it is in the log. It is given to the server for conversion.
//
// A character without a counterpart in Unicode, or bytes that are no character, fail the whole
// session, again and again. Then the log up to its end at that moment is read without conversion.
// In such a session a value with bytes beyond ASCII counts as not sent, so that rules purge
// what they name under unknown.

const (
	encodingUTF8  = "UTF8"
	encodingASCII = "SQL_ASCII"
)

// clientEncoding is the client_encoding of a session on a database.
func clientEncoding(server string) string {
	if server == encodingASCII {
		return encodingASCII
	}
	return encodingUTF8
}

// untranslatable reports that the server could not convert a text.
func untranslatable(err error) bool {
	code := sqlState(err)
	return code == codeUntranslatable || code == codeNotInRepertoire
}

// errConvertible ends a session without conversion.
var errConvertible = errors.New("what could not be converted to UTF-8 is confirmed")

// text is what a session knows of encodings.
type text struct {
	// server is the encoding of the database; empty counts as UTF8.
	server string
	// raw is set while nothing is converted, until the log is confirmed up to there.
	raw   bool
	until cdc.LSN
	// convert has the server convert from its encoding.
	convert func(ctx context.Context, content []byte) ([]byte, error)
	// named are the tables whose names are converted.
	named map[*cdc.Relation]bool
}

// content converts the content of a message. What the server cannot convert stays as it is.
func (t *text) content(ctx context.Context, b []byte) ([]byte, error) {
	if t.server == "" || t.server == encodingUTF8 || t.server == encodingASCII || ascii(b) {
		return b, nil
	}
	out, err := t.convert(ctx, b)
	if untranslatable(err) {
		return b, nil
	}
	return out, err
}

// decoded makes what the decoder has read without conversion fit for rules.
func (t *text) decoded(ctx context.Context, typ pgoutput.Type, d *pgoutput.Decoder) error {
	if !t.raw {
		return nil
	}
	switch typ {
	case pgoutput.InsertType, pgoutput.UpdateType, pgoutput.DeleteType:
		for _, row := range []cdc.Tuple{d.Change.Old, d.Change.New} {
			for i, v := range row {
				if v.Kind == cdc.Text && !ascii(v.Data) {
					row[i] = cdc.Value{Kind: cdc.Absent}
				}
			}
		}
	case pgoutput.RelationType:
		rel := d.Relation
		if t.named[rel] {
			return nil
		}
		names := []*string{&rel.Schema, &rel.Name}
		for i := range rel.Columns {
			names = append(names, &rel.Columns[i].Name)
		}
		for _, name := range names {
			b, err := t.content(ctx, []byte(*name))
			if err != nil {
				return err
			}
			*name = string(b)
		}
		t.named[rel] = true
	}
	return nil
}

// over reports that a session without conversion has done its work.
func (t *text) over(board *watermark.Board) bool {
	return t.raw && board.Get(watermark.Mark{Stage: watermark.Confirmed}).LSN >= t.until
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c > unicode.MaxASCII {
			return false
		}
	}
	return true
}

// toUTF8 has the server convert from the encoding of the database. It blocks while it asks.
func (r *Reader) toUTF8(ctx context.Context, content []byte) (converted []byte, err error) {
	err = r.questions.ask(ctx, func(conn *pgx.Conn) error {
		var out string
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.convert_from($1::pg_catalog.bytea, pg_catalog.getdatabaseencoding())", content).Scan(&out); err != nil {
			return fmt.Errorf("convert a message to UTF-8: %w", err)
		}
		converted = []byte(out)
		return nil
	})
	return converted, err
}
