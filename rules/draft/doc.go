// Package draft writes a first rules file from the shape of a database: primary
// keys become keys and tags, foreign keys the lists of the rows they point to.
//
// It owns the choice of names, keys, tags and comments. It guarantees that the
// loader of package rules takes what it writes, that the same tables give the
// same text, and that no rule in it needs an old value which the table's
// replica identity does not carry, unless `unknown` stands in for it. What
// cannot be watched is named in a comment with the SQL that would help.
//
// It is pure: the tables are given to it. It knows no application, so the keys
// are proposals.
package draft
