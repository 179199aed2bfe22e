package cdc

import "regexp"

// FirstUserOID is the first type OID that differs from server to server (PostgreSQL,
// src/include/access/transam.h, FirstGenbkiObjectId). The stream sends a Type message for each
// such type.
const FirstUserOID = 10000

// DataType is what a column's values are, below the names of domains: a type that is built in, a
// type of the user's own, or an array of either.
type DataType struct {
	// OID is the type's OID. It says what values are where it is less than FirstUserOID; 0 is a
	// text of which nothing more is known.
	OID uint32
	// Name is the type's name without its schema, for types that are not built in. It is empty
	// where the type is not known.
	Name string
	// Enum reports a type made by CREATE TYPE .. AS ENUM.
	Enum bool
	// Elem is what the elements of an array are, nil for other types. Delimiter separates them.
	Elem      *DataType
	Delimiter byte
}

// Unknown reports a type of the user's own of which only the OID is known.
func (t *DataType) Unknown() bool { return t.OID >= FirstUserOID && t.Name == "" }

// DataType is what is known of the column's values.
func (c *Column) DataType() DataType {
	if c.Type != nil {
		return *c.Type
	}
	return BuiltinType(c.TypeOID)
}

// BuiltinType is a type by its OID. Of one that is not built in nothing else is known.
func BuiltinType(oid uint32) DataType {
	t := DataType{OID: oid}
	if oid >= FirstUserOID {
		return t
	}
	for _, b := range builtins {
		if b.array == oid && oid != 0 {
			t.Elem, t.Delimiter = &DataType{OID: b.oid}, ','
			if b.oid == oidBox {
				t.Delimiter = ';'
			}
		}
	}
	return t
}

// BuiltinOID finds a type of the schema pg_catalog by its name, _text for an array of text; 0
// if there is no such type.
func BuiltinOID(name string) uint32 {
	for _, b := range builtins {
		if b.name == name {
			return b.oid
		}
		if b.array != 0 && "_"+b.name == name {
			return b.array
		}
	}
	return 0
}

// BuiltinArray is the type of arrays of a built-in type, 0 if it has no array type.
func BuiltinArray(elem uint32) uint32 {
	for _, b := range builtins {
		if b.oid == elem {
			return b.array
		}
	}
	return 0
}

// BuiltinName is the name of a type that is built in, empty for others and for arrays.
func BuiltinName(oid uint32) string {
	for _, b := range builtins {
		if b.oid == oid {
			return b.name
		}
	}
	return ""
}

// printedNames are the types that format_type calls otherwise than pg_type.
var printedNames = map[string]string{
	"boolean": "bool", "smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4", "double precision": "float8",
	"character": "bpchar", "character varying": "varchar", "bit varying": "varbit", `"char"`: "char",
	"time without time zone": "time", "time with time zone": "timetz", "timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz",
}

var modifiers = regexp.MustCompile(` ?\([0-9,-]+\)`)

// PrintedOID finds a built-in type by the name that format_type prints, with or without the
// numbers in parentheses; 0 if there is no such type.
func PrintedOID(name string) uint32 {
	name = modifiers.ReplaceAllString(name, "")
	if other, ok := printedNames[name]; ok {
		name = other
	}
	return BuiltinOID(name)
}

// oidBox is the only built-in type whose array has a delimiter other than a comma.
const oidBox = 603

// builtins are the types that columns can have, with their arrays (PostgreSQL,
// src/include/catalog/pg_type.dat). A type's OID never changes. Not among them are arrays, and
// int2vector and oidvector count as no arrays: they are printed in a form of their own.
var builtins = [...]struct {
	oid   uint32
	name  string
	array uint32
}{
	{16, "bool", 1000}, {17, "bytea", 1001}, {18, "char", 1002}, {19, "name", 1003}, {20, "int8", 1016},
	{21, "int2", 1005}, {22, "int2vector", 1006}, {23, "int4", 1007}, {24, "regproc", 1008}, {25, "text", 1009},
	{26, "oid", 1028}, {27, "tid", 1010}, {28, "xid", 1011}, {29, "cid", 1012}, {30, "oidvector", 1013},
	{114, "json", 199}, {142, "xml", 143}, {194, "pg_node_tree", 0}, {600, "point", 1017}, {601, "lseg", 1018},
	{602, "path", 1019}, {603, "box", 1020}, {604, "polygon", 1027}, {628, "line", 629}, {650, "cidr", 651},
	{700, "float4", 1021}, {701, "float8", 1022}, {718, "circle", 719}, {774, "macaddr8", 775},
	{790, "money", 791}, {829, "macaddr", 1040}, {869, "inet", 1041}, {1033, "aclitem", 1034},
	{1042, "bpchar", 1014}, {1043, "varchar", 1015}, {1082, "date", 1182}, {1083, "time", 1183},
	{1114, "timestamp", 1115}, {1184, "timestamptz", 1185}, {1186, "interval", 1187}, {1266, "timetz", 1270},
	{1560, "bit", 1561}, {1562, "varbit", 1563}, {1700, "numeric", 1231}, {1790, "refcursor", 2201},
	{2202, "regprocedure", 2207}, {2203, "regoper", 2208}, {2204, "regoperator", 2209}, {2205, "regclass", 2210},
	{2206, "regtype", 2211}, {2249, "record", 2287}, {2275, "cstring", 1263}, {2950, "uuid", 2951},
	{2970, "txid_snapshot", 2949}, {3220, "pg_lsn", 3221}, {3361, "pg_ndistinct", 0},
	{3402, "pg_dependencies", 0}, {3614, "tsvector", 3643}, {3615, "tsquery", 3645}, {3642, "gtsvector", 3644},
	{3734, "regconfig", 3735}, {3769, "regdictionary", 3770}, {3802, "jsonb", 3807}, {3904, "int4range", 3905},
	{3906, "numrange", 3907}, {3908, "tsrange", 3909}, {3910, "tstzrange", 3911}, {3912, "daterange", 3913},
	{3926, "int8range", 3927}, {4072, "jsonpath", 4073}, {4089, "regnamespace", 4090}, {4096, "regrole", 4097},
	{4191, "regcollation", 4192}, {4451, "int4multirange", 6150}, {4532, "nummultirange", 6151},
	{4533, "tsmultirange", 6152}, {4534, "tstzmultirange", 6153}, {4535, "datemultirange", 6155},
	{4536, "int8multirange", 6157}, {4600, "pg_brin_bloom_summary", 0}, {4601, "pg_brin_minmax_multi_summary", 0},
	{5017, "pg_mcv_list", 0}, {5038, "pg_snapshot", 5039}, {5069, "xid8", 271},
}
