package draft

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

var (
	identifierForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	plainScalar    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)
)

// taken are words that mean something else than a column of that name: to rules,
// to CEL, or (yes, no) to YAML where they stand alone.
func taken(word string) bool {
	return slices.Contains([]string{
		"row", "old", "new", "op", "vars", "true", "false", "null", "in",
		"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
	}, word)
}

// reading is the expression that reads a column.
func reading(column string) string {
	if identifierForm.MatchString(column) && !taken(column) {
		return column
	}
	var b strings.Builder
	b.WriteString(`row["`)
	for _, c := range column {
		switch {
		case c == '"' || c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case !unicode.IsPrint(c) && c <= 0xffff:
			b.WriteString(`\u`)
			hex := strconv.FormatInt(int64(c), 16)
			b.WriteString(strings.Repeat("0", 4-len(hex)) + hex)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteString(`"]`)
	return b.String()
}

// value is a column in a key or a tag. A key has it as it is; what a tag cannot
// carry, the rules encode.
func value(c Column) string { return "{" + reading(c.Name) + "}" }

// quoted is a text in a list of the file.
func quoted(s string) string {
	switch {
	case strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
		return strconv.Quote(s)
	case strings.ContainsAny(s, `"\`):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return `"` + s + `"`
}

// scalar is a text that needs quotes only if it is odd.
func scalar(s string) string {
	if plainScalar.MatchString(s) && !slices.Contains([]string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}, strings.ToLower(s)) {
		return s
	}
	return quoted(s)
}

// comment is a text as a line of comment: no name of a table can end it.
func comment(s string) string {
	return strings.Map(func(c rune) rune {
		if c != ' ' && !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, s)
}

// Quote makes an SQL identifier of parts.
func Quote(parts ...string) string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(out, ".")
}

// FullSQL gives a table the whole old row in the log, or, where that fails, more of it. A partition has its own
// identity, so a partitioned table takes a statement for each, made by psql.
func (t *Table) FullSQL() string {
	name := Quote(t.Schema, t.Name)
	if t.FullFails {
		return "ALTER TABLE " + name + " REPLICA IDENTITY USING INDEX ...; -- of columns that are not generated"
	}
	if !t.Partitioned {
		return "ALTER TABLE " + name + " REPLICA IDENTITY FULL;"
	}
	return `SELECT format('ALTER TABLE %s REPLICA IDENTITY FULL', relid::regclass) FROM pg_partition_tree('` + strings.ReplaceAll(name, "'", "''") + `') \gexec`
}

// KeySQL gives a table a primary key: of a link between tables, what it links.
func (t *Table) KeySQL() string {
	columns := "..."
	if t.joins() {
		var key []string
		for _, c := range t.Columns {
			if slices.ContainsFunc(t.Foreign, func(f Foreign) bool { return slices.Contains(f.Columns, c.Name) }) {
				key = append(key, Quote(c.Name))
			}
		}
		columns = strings.Join(key, ", ")
	}
	return "ALTER TABLE " + Quote(t.Schema, t.Name) + " ADD PRIMARY KEY (" + columns + ");"
}
