package rules

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// LockFile is the name of the file that keeps a catalog beside walpurge.yaml.
const LockFile = "catalog.lock.yaml"

const (
	lockVersion = 1
	lockHeader  = "# The tables that the rules name, as the database has them: columns, types, replica\n" +
		"# identities. Written by `walpurge rules lock`; commit it, and do not edit it.\n"
)

// rawCatalog is a lock file as written.
type rawCatalog struct {
	Version strictyaml.Located[int]  `yaml:"version"`
	Tables  strictyaml.Map[rawShape] `yaml:"tables"`
}

type rawShape struct {
	Identity strictyaml.Text                  `yaml:"identity"`
	Index    strictyaml.Text                  `yaml:"index"`
	Key      []strictyaml.Text                `yaml:"key"`
	Columns  strictyaml.Map[rawCatalogColumn] `yaml:"columns"`
}

type rawCatalogColumn struct {
	Type      strictyaml.Text            `yaml:"type"`
	Base      strictyaml.Text            `yaml:"base"`
	Enum      bool                       `yaml:"enum"`
	OID       strictyaml.Located[uint32] `yaml:"oid"`
	NotNull   bool                       `yaml:"not_null"`
	Toastable bool                       `yaml:"toastable"`
	Generated bool                       `yaml:"generated"`
}

// LoadCatalog reads a lock file. Its errors are strictyaml.Errors, or say that the
// file cannot be read.
func LoadCatalog(file string) (*Catalog, error) {
	data, err := readfile.Read(file, strictyaml.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return ParseCatalog(file, data)
}

// ParseCatalog reads a lock file that is already in memory.
func ParseCatalog(file string, data []byte) (*Catalog, error) {
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var raw rawCatalog
	if err := doc.Decode(&raw); err != nil {
		return nil, err
	}
	var errs strictyaml.Errors
	if raw.Version.Value != lockVersion {
		errs.Addf(file, raw.Version.Pos, "version: want %d; write the file again with `walpurge rules lock`", lockVersion)
	}
	tables := make([]CatalogTable, 0, len(raw.Tables))
	for i := range raw.Tables {
		e := &raw.Tables[i]
		schema, name, _ := strings.Cut(e.Key, ".")
		if schema == "" || name == "" || strings.Contains(name, ".") {
			errs.Addf(file, e.Pos, "table %q: want schema.name with one dot, like public.products", e.Key)
		}
		t := e.Value.table(file, e.Pos, &errs)
		t.Table = Table{Schema: schema, Name: name}
		tables = append(tables, t)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	c := NewCatalog(tables)
	c.File = file
	return c, nil
}

func identityWords() map[cdc.Identity]string {
	return map[cdc.Identity]string{cdc.IdentityDefault: "default", cdc.IdentityFull: "full", cdc.IdentityIndex: "index", cdc.IdentityNothing: "nothing"}
}

func (r *rawShape) table(file string, at strictyaml.Pos, errs *strictyaml.Errors) CatalogTable {
	t := CatalogTable{Index: r.Index.Value}
	for identity, word := range identityWords() {
		if r.Identity.Value == word {
			t.Identity = identity
		}
	}
	if t.Identity == 0 {
		if r.Identity.Given() {
			at = r.Identity.Pos()
		}
		errs.Addf(file, at, "identity: %s; write default, full, index or nothing", r.Identity)
	}
	if r.Index.Given() != (t.Identity == cdc.IdentityIndex) && t.Identity != 0 {
		errs.Addf(file, at, "`index` names the index of `identity: index`, and is there with it only")
	}
	for i := range r.Columns {
		e := &r.Columns[i]
		c := CatalogColumn{Name: e.Key, Type: e.Value.Type.Value, Base: e.Value.Base.Value, Enum: e.Value.Enum, OID: e.Value.OID.Value, NotNull: e.Value.NotNull, Toastable: e.Value.Toastable, Generated: e.Value.Generated}
		if c.Name == "" || c.Type == "" {
			errs.Addf(file, e.Pos, "column %q: want a name and a `type`", c.Name)
		}
		if c.OID >= cdc.FirstUserOID {
			errs.Addf(file, e.Value.OID.Pos, "oid: %d is not the same on every server; take it out", c.OID)
		}
		t.Columns = append(t.Columns, c)
	}
	for _, k := range r.Key {
		found := false
		for i := range t.Columns {
			if t.Columns[i].Name == k.Value {
				found, t.Columns[i].Identity = true, true
			}
		}
		switch {
		case t.Identity == cdc.IdentityFull || t.Identity == cdc.IdentityNothing:
			errs.Addf(file, k.Pos(), "`key` is for the identities default and index")
		case !found:
			errs.Addf(file, k.Pos(), "key: the table has no column %q", k.Value)
		}
	}
	return t
}

// YAML writes the catalog as a lock file: tables by name, columns in their order,
// one per line, and the same bytes for the same tables.
func (c *Catalog) YAML() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%sversion: %d\ntables:", lockHeader, lockVersion)
	if len(c.tables) == 0 {
		b.WriteString(" {}")
	}
	b.WriteByte('\n')
	for _, name := range c.Tables() {
		t := c.tables[name]
		fmt.Fprintf(&b, "  %s:\n    identity: %s\n", yamlText(name.String()), identityWords()[t.Identity])
		if t.Identity == cdc.IdentityIndex {
			fmt.Fprintf(&b, "    index: %s\n", yamlText(t.Index))
		}
		if key := t.Key(); len(key) > 0 {
			for i := range key {
				key[i] = yamlText(key[i])
			}
			fmt.Fprintf(&b, "    key: [%s]\n", strings.Join(key, ", "))
		}
		b.WriteString("    columns:")
		if len(t.Columns) == 0 {
			b.WriteString(" {}")
		}
		b.WriteByte('\n')
		for _, col := range t.Columns {
			fmt.Fprintf(&b, "      %s: {type: %s", yamlText(col.Name), yamlText(col.Type))
			if col.Base != "" {
				fmt.Fprintf(&b, ", base: %s", yamlText(col.Base))
			}
			if col.OID != 0 {
				fmt.Fprintf(&b, ", oid: %d", col.OID)
			}
			for _, flag := range []struct {
				set  bool
				name string
			}{{col.Enum, "enum"}, {col.NotNull, "not_null"}, {col.Toastable, "toastable"}, {col.Generated, "generated"}} {
				if flag.set {
					fmt.Fprintf(&b, ", %s: true", flag.name)
				}
			}
			b.WriteString("}\n")
		}
	}
	return b.Bytes()
}

// yamlText writes a text so that every reader of YAML takes it for a text.
func yamlText(s string) string {
	plain := regexp.MustCompile(`^[a-z_][a-z0-9_]*([. ][a-z0-9_]+)*$`).MatchString(s)
	if plain && !regexp.MustCompile(`^(y|n|yes|no|on|off|true|false|null|_.*)$`).MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strconv.IsPrint(r) && r < 0x10000:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
