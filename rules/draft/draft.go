package draft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

// Table is a table as the draft sees it.
type Table struct {
	cdc.Table
	Columns []Column
	// Key is the primary key in its own order, nil without one.
	Key         []string
	Foreign     []Foreign
	Identity    cdc.Identity
	Partitioned bool
	// FullFails reports that identity FULL would make UPDATE and DELETE of the published table
	// fail, because of generated columns.
	FullFails bool
	// Trouble says why the table cannot be watched, empty if it can; Fix is the
	// SQL that would help, if any, in lines.
	Trouble string
	Fix     string
}

// Column is a column, in the order of the table.
type Column struct {
	Name string
	// Type is as PostgreSQL's format_type prints it, without a modifier.
	Type string
	// Carried reports that old rows in the log have it.
	Carried bool
	// Generated columns are not in the log at all.
	Generated bool
	// Labels is set for an array whose elements name something, such as tags.
	Labels bool
}

// Foreign is a reference of Columns to Referenced of the parent, whose primary
// key is ParentKey.
type Foreign struct {
	Columns    []string
	Parent     cdc.Table
	Referenced []string
	ParentKey  []string
}

// Options say which kinds of value the rules name.
type Options struct {
	Keys bool
	Tags bool
}

// Result is a draft.
type Result struct {
	Text string
	// Rules is how many rules it has, LeftOut how many tables have none.
	Rules   int
	LeftOut int
}

const header = "# yaml-language-server: $schema=walpurge-rules.schema.json\n" +
	"# (walpurge schema rules > walpurge-rules.schema.json makes that file, for your editor.)\n" +
	"# A first draft by `walpurge rules init`, from primary and foreign keys. Read it before you run it:\n"

const keysHeader = `# - keys are a guess at what the application calls the entries of its cache. Rename them to what it really
#   writes, byte for byte, and take out what it does not cache.
`

const tagsHeader = `# - tags are what responses must carry for an edge to purge them, for example in the header Cache-Tag.
#   What a header cannot hold is percent-encoded in values from rows: do the same there.
`

const allHeader = `# - A row purges the values of what it was and of what it is now; a foreign key that is NULL gives none.
# - TRUNCATE purges keys by their pattern, and everything at sinks without patterns; ` + "`on_truncate` names less." + `
# Then: walpurge rules test, to write down what you expect, and walpurge check, against the database.
`

// Make writes the draft. Tables are sorted by name.
func Make(tables []Table, opts Options) Result {
	tables = slices.Clone(tables)
	slices.SortFunc(tables, func(a, b Table) int { return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name)) })
	d := &drafter{opts: opts, names: nameTables(tables)}
	var made []rule
	var out []leftOut
	for i := range tables {
		r, why := d.rule(&tables[i])
		if why != nil {
			out = append(out, *why)
			continue
		}
		made = append(made, *r)
	}
	var b strings.Builder
	b.WriteString(header)
	if opts.Keys {
		b.WriteString(keysHeader)
	}
	if opts.Tags {
		b.WriteString(tagsHeader)
	}
	b.WriteString(allHeader)
	if len(made) == 0 {
		b.WriteString("rules: []\n")
	} else {
		b.WriteString("rules:\n")
	}
	for i, r := range made {
		if i > 0 {
			b.WriteByte('\n')
		}
		r.write(&b)
	}
	if len(out) > 0 {
		b.WriteString("\n# Not watched:\n")
	}
	for _, o := range out {
		fmt.Fprintf(&b, "#\n# %s: %s\n", comment(o.table.String()), comment(o.why))
		for line := range strings.SplitSeq(o.fix, "\n") {
			if line != "" {
				fmt.Fprintf(&b, "#   %s\n", comment(line))
			}
		}
	}
	return Result{Text: b.String(), Rules: len(made), LeftOut: len(out)}
}

// leftOut is a table without a rule.
type leftOut struct {
	table cdc.Table
	why   string
	fix   string
}

// rule is one entry of the file.
type rule struct {
	comments []string
	name     string
	table    string
	keys     []string
	tags     []string
	unknown  string // a tag
}

func (r *rule) write(b *strings.Builder) {
	for _, c := range r.comments {
		fmt.Fprintf(b, "  # %s\n", comment(c))
	}
	fmt.Fprintf(b, "  - name: %s\n    table: %s\n", scalar(r.name), scalar(r.table))
	writeList(b, "keys", r.keys)
	writeList(b, "tags", r.tags)
	if r.unknown != "" {
		fmt.Fprintf(b, "    unknown: {tags: [%s]}\n", quoted(r.unknown))
	}
}

// widest is how long a list in one line may be.
const widest = 110

func writeList(b *strings.Builder, key string, values []string) {
	if len(values) == 0 {
		return
	}
	line := list(key, values)
	if len(line) <= widest {
		fmt.Fprintf(b, "    %s\n", line)
		return
	}
	fmt.Fprintf(b, "    %s:\n", key)
	for _, v := range values {
		fmt.Fprintf(b, "      - %s\n", quoted(v))
	}
}

// list is a key with its values in one line.
func list(key string, values []string) string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = quoted(v)
	}
	return key + ": [" + strings.Join(all, ", ") + "]"
}
