package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// The stream names a type that is not built in by an OID. What it is made of is read from the
// catalog: a type's base type, element type and kind never change, so the catalog of now is as good
// as that of the change. Of a type that is gone by now the Type message is left, which says of a
// domain what it is made from (pgoutput.c, send_relation_and_attrs; proto.c, logicalrep_write_typ:
// it writes getBaseType). Where that is not enough, and for a type whose transaction has not ended,
// rules are told that they do not know the type.

// typeRow is a row of pg_type.
type typeRow struct {
	name      string
	kind      byte
	base      uint32 // of a domain
	elem      uint32 // of an array, 0 for other types
	delimiter byte
	// below is what a domain is made from, as format_type prints it.
	below string
}

// dataTypes are types by OID. A nil entry is a type that the catalog does not have.
type dataTypes map[uint32]*typeRow

// Types that are subscripted by another handler, such as point, have elements and are no arrays.
const dataTypeQuery = `
SELECT t.oid, t.typname::pg_catalog.text, t.typtype::pg_catalog.text, t.typbasetype, t.typdelim::pg_catalog.text,
       CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc THEN t.typelem ELSE 0 END,
       CASE t.typtype WHEN 'd' THEN pg_catalog.regexp_replace(pg_catalog.format_type(t.typbasetype, t.typtypmod), '^public\.', '') ELSE '' END
FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1)`

// allTypesQuery adds the types that columns are likely to have: not those of the rows of tables.
const allTypesQuery = dataTypeQuery + ` OR t.typtype IN ('d', 'e', 'r', 'm')
OR t.oid >= 16384 AND t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typtype = 'c')`

// load reads types, and what they are made from. Types that are known are not read again.
func (d dataTypes) load(ctx context.Context, conn *pgx.Conn, query string, oids []uint32) error {
	for {
		var missing []uint32
		for _, oid := range oids {
			if _, known := d[oid]; !known && oid >= cdc.FirstUserOID {
				d[oid] = nil
				missing = append(missing, oid)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		oids = oids[:0:0]
		rows, _ := conn.Query(ctx, query, missing)
		var oid uint32
		var one typeRow
		var kind, delimiter string
		if _, err := pgx.ForEachRow(rows, []any{&oid, &one.name, &kind, &one.base, &delimiter, &one.elem, &one.below}, func() error {
			row := one
			row.kind, row.delimiter = kind[0], delimiter[0]
			d[oid] = &row
			oids = append(oids, row.base, row.elem)
			return nil
		}); err != nil {
			return fmt.Errorf("read the types: %w", err)
		}
	}
}

// of is what is known of a type.
func (d dataTypes) of(oid uint32) cdc.DataType {
	if oid < cdc.FirstUserOID {
		return cdc.BuiltinType(oid)
	}
	row := d[oid]
	switch {
	case row == nil:
		return cdc.DataType{OID: oid}
	case row.kind == 'd':
		return d.of(row.base)
	case row.elem != 0:
		elem := d.of(row.elem)
		if array := cdc.BuiltinType(cdc.BuiltinArray(elem.OID)); array.Elem != nil && array.Delimiter == row.delimiter {
			return array // of a domain
		}
		return cdc.DataType{OID: oid, Name: row.name, Elem: &elem, Delimiter: row.delimiter}
	}
	return cdc.DataType{OID: oid, Name: row.name, Enum: row.kind == 'e'}
}

// below is the name of what a type is made from, below domains; empty where there are none.
func (d dataTypes) below(oid uint32) string {
	row := d[oid]
	switch {
	case row == nil:
		return ""
	case row.kind == 'd':
		if deeper := d.below(row.base); deeper != "" {
			return deeper
		}
		return row.below
	case row.elem != 0:
		if elem := d.below(row.elem); elem != "" {
			return elem + "[]"
		}
	}
	return ""
}

// sessionTypes are the types that a session has met.
type sessionTypes struct {
	known dataTypes
	// told are those of Type messages.
	told map[uint32]pgoutput.DataType
	// connect opens a connection to ask the catalog.
	connect func(ctx context.Context) (*pgx.Conn, error)
}

func newSessionTypes(connect func(ctx context.Context) (*pgx.Conn, error)) *sessionTypes {
	return &sessionTypes{known: dataTypes{}, told: map[uint32]pgoutput.DataType{}, connect: connect}
}

// tell keeps what a Type message says.
func (s *sessionTypes) tell(t pgoutput.DataType) { s.told[t.OID] = t }

// describe says of a table's columns what their types are. It blocks while it asks the catalog,
// which it does for types that the session has not met.
func (s *sessionTypes) describe(ctx context.Context, rel *cdc.Relation) error {
	var oids []uint32
	for i := range rel.Columns {
		if oid := rel.Columns[i].TypeOID; oid >= cdc.FirstUserOID {
			oids = append(oids, oid)
		}
	}
	if len(oids) == 0 {
		return nil
	}
	if err := s.ask(ctx, oids); err != nil {
		return err
	}
	for i := range rel.Columns {
		col := &rel.Columns[i]
		if col.TypeOID < cdc.FirstUserOID {
			continue
		}
		t := s.known.of(col.TypeOID)
		if told := s.told[col.TypeOID]; t.Unknown() && (told.Schema == "" || told.Schema == "pg_catalog") {
			if oid := cdc.BuiltinOID(told.Name); oid != 0 {
				t = cdc.BuiltinType(oid)
			}
		}
		col.Type = &t
	}
	return nil
}

func (s *sessionTypes) ask(ctx context.Context, oids []uint32) error {
	asked := false
	for _, oid := range oids {
		_, known := s.known[oid]
		asked = asked || !known
	}
	if !asked {
		return nil
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	query := dataTypeQuery
	if len(s.known) == 0 {
		query = allTypesQuery
	}
	return s.known.load(ctx, conn, query, oids)
}

// Collation is a column whose text is not compared by code points.
type Collation struct {
	Column string
	Name   string
	// Loose is set where different texts may be equal (a nondeterministic collation).
	Loose bool
}

// A database's collation is that of columns that name none. Its provider has a column of its own
// since PostgreSQL 15, and a name of its own since 17.
const collationQuery = `
SELECT a.attname::pg_catalog.text, CASE co.oid WHEN 100 THEN coalesce(pg_catalog.to_jsonb(d)->>'datlocale', pg_catalog.to_jsonb(d)->>'daticulocale', d.datcollate) ELSE co.collname::pg_catalog.text END,
       NOT co.collisdeterministic
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped`

// Collations lists the columns of a table whose text is not compared by code points.
func Collations(ctx context.Context, conn *pgx.Conn, t cdc.Table) ([]Collation, error) {
	rows, _ := conn.Query(ctx, collationQuery, t.Schema, t.Name)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Collation])
	if err != nil {
		return nil, fmt.Errorf("read the collations of %s: %w", t, err)
	}
	var out []Collation
	for _, c := range all {
		switch c.Name {
		case "C", "POSIX", "ucs_basic", "C.UTF-8", "C.utf8", "pg_c_utf8":
		default:
			out = append(out, c)
		}
	}
	return out, nil
}
