package lookup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// statement is a lookup prepared on the connection: for one list of arguments,
// and, where it can be, for many.
type statement struct {
	one  string
	many string // empty without one
	// shape are the columns of an answer.
	shape *cdc.Relation
}

// limited is the lookup's statement with one row more than its limit, so that an
// answer with too many is noticed and costs no more than that.
func limited(l *rules.Lookup) string {
	return fmt.Sprintf("SELECT * FROM (%s\n) AS walpurge_lookup LIMIT %d", l.SQL, l.Limit+1)
}

// together is the statement for many lists of arguments, each parameter an array
// of texts: it runs the lookup's own for each list, beside whose place the rows
// come. types are the parameters' types.
func together(l *rules.Lookup, types []string) string {
	arrays, names := make([]string, len(types)), make([]string, len(types))
	for i := range types {
		arrays[i], names[i] = fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text[])", i+1), fmt.Sprintf("a%d", i+1)
	}
	sql := l.With(func(n int) string { return fmt.Sprintf("CAST(walpurge_args.a%d AS %s)", n, types[n-1]) })
	return fmt.Sprintf("SELECT walpurge_args.n, walpurge_rows.* FROM ROWS FROM (%s) WITH ORDINALITY AS walpurge_args (%s, n)\n"+
		"CROSS JOIN LATERAL (SELECT * FROM (%s\n) AS walpurge_lookup LIMIT %d) AS walpurge_rows",
		strings.Join(arrays, ", "), strings.Join(names, ", "), sql, l.Limit+1)
}

// statement prepares a lookup, or finds it prepared.
func (r *Resolver) statement(ctx context.Context, s spec, l *rules.Lookup, deadline time.Time) (*statement, error) {
	if st := r.statements[s]; st != nil {
		return st, nil
	}
	pg := r.conn.PgConn()
	// Preparing waits for the locks of tables, too.
	if err := pg.ExecParams(ctx, setTimeout, [][]byte{milliseconds(time.Until(deadline))}, nil, nil, nil).Read().Err; err != nil {
		return nil, err
	}
	// The statement as it was written first: what it is wrapped in must not correct it.
	if _, err := pg.Prepare(ctx, "", l.SQL, nil); err != nil {
		return nil, err
	}
	r.names++
	st := &statement{one: fmt.Sprintf("walpurge_one_%d", r.names)}
	d, err := pg.Prepare(ctx, st.one, limited(l), nil)
	if err != nil {
		return nil, err
	}
	st.shape = shapeOf(d.Fields)
	r.statements[s] = st
	if len(d.ParamOIDs) == 0 {
		return st, nil
	}
	types, err := r.types(ctx, d.ParamOIDs)
	if err != nil {
		return nil, err
	}
	many := fmt.Sprintf("walpurge_many_%d", r.names)
	if _, err = pg.Prepare(ctx, many, together(l, types), nil); err == nil {
		st.many = many
	} else if pg.IsClosed() {
		return nil, err
	}
	return st, nil
}

// shapeOf describes the rows as the stream describes a table's.
func shapeOf(fields []pgconn.FieldDescription) *cdc.Relation {
	rel := &cdc.Relation{Columns: make([]cdc.Column, len(fields))}
	for i, f := range fields {
		rel.Columns[i] = cdc.Column{Name: f.Name, TypeOID: f.DataTypeOID, TypeMod: f.TypeModifier}
	}
	return rel
}

// types names the parameters' types. The modifier -1 keeps bpchar from becoming
// character, which would be one character wide.
func (r *Resolver) types(ctx context.Context, oids []uint32) ([]string, error) {
	out := make([]string, len(oids))
	for i, oid := range oids {
		text := strconv.FormatUint(uint64(oid), 10)
		res := r.conn.PgConn().ExecParams(ctx, "SELECT pg_catalog.format_type($1::pg_catalog.oid, -1)", [][]byte{[]byte(text)}, nil, nil, nil).Read()
		if res.Err != nil {
			return nil, res.Err
		}
		if len(res.Rows) != 1 {
			return nil, errors.New("the server does not name a parameter's type")
		}
		out[i] = string(res.Rows[0][0])
	}
	return out, nil
}

// run answers the queries of a batch, together where that works. An argument that
// does not fit its parameter fails the whole statement, so then each is put alone.
func (r *Resolver) run(ctx context.Context, g *batch, deadline time.Time, answers []rules.Answer) error {
	st, err := r.statement(ctx, g.spec, g.lookup, deadline)
	if err != nil {
		return err
	}
	if g.timeout = min(g.timeout, time.Until(deadline)); g.timeout <= 0 {
		return errTooLate
	}
	if len(g.queries) > 1 && st.many != "" {
		err = r.many(ctx, g, st, answers)
		if !unfitArgument(err) {
			r.forget(ctx, g.spec, err)
			return err
		}
	}
	err = r.each(ctx, g, st, answers)
	r.forget(ctx, g.spec, err)
	return err
}

// forget drops a statement that failed: what it reads may have been altered, and
// it is prepared again the next time.
func (r *Resolver) forget(ctx context.Context, s spec, err error) {
	st := r.statements[s]
	if err == nil || st == nil || r.conn.IsClosed() || sqlState(err) == codeCanceled {
		return
	}
	delete(r.statements, s)
	for _, name := range []string{st.one, st.many} {
		if name != "" {
			_ = r.conn.PgConn().Deallocate(ctx, name) // if not, it only takes room
		}
	}
}

// SQLSTATE codes that are acted upon.
const (
	codeCanceled  = "57014" // the statement timeout, too
	codePrivilege = "42501"
	classData     = "22" // data exceptions: a text that is no number, ...
)

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func unfitArgument(err error) bool { return strings.HasPrefix(sqlState(err), classData) }

// plain is an error without values: a data exception quotes the argument.
func plain(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil || !errors.As(err, &pg):
		return err
	case pg.Code == codeCanceled:
		return fmt.Errorf("it took longer than its timeout (SQLSTATE %s)", pg.Code)
	case strings.HasPrefix(pg.Code, classData):
		return fmt.Errorf("an argument or a value does not fit its type (SQLSTATE %s)", pg.Code)
	}
	return fmt.Errorf("%s (SQLSTATE %s)", pg.Message, pg.Code)
}
